"""What becomes a site, and the numbers it gets, against values computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck
from unstuck.rules.loss.nonfinite_loss import first_place
from unstuck.trace import Edge, Kind, Role

from .watching import X, Y, leaf, ops, traced


class TestSilent:
    """What must not become a site."""

    def test_evaluation_without_gradients(self):
        w = leaf(4, 3)

        def step():
            with torch.no_grad():
                torch.tanh(X @ w)
            F.cross_entropy(X @ w, Y).backward()

        assert ops(traced(step), Kind.ACTIVATION) == []

    def test_preparing_data(self):
        w = leaf(4, 3)
        assert ops(traced(lambda: (torch.sigmoid(X), F.cross_entropy(X @ w, Y).backward())), Kind.ACTIVATION) == []

    def test_a_product_of_two_activations(self):
        w = leaf(4, 3)

        def step():
            h = X @ w
            (h @ h.T).sum().backward()

        assert ops(traced(step), Kind.WEIGHT_LAYER) == ["matmul"]

    def test_a_forward_pass_without_backward_leaves_no_numbers(self):
        w = leaf(4, 3)
        trace = traced(lambda: X @ w)
        assert trace.steps == []
        assert all(not trace.summaries(site, role) for site in trace.sites for role in Role)


W, B = leaf(4, 3), leaf(3)
LINEAR, CONV = nn.Linear(4, 3), nn.Conv1d(1, 3, 2)
WEIGHT_FORMS = {
    "@": lambda: X @ W + B,
    "matmul": lambda: torch.matmul(X, W) + B,
    "mm": lambda: B + X.mm(W),
    "addmm": lambda: torch.addmm(B, X, W),
    "transposed": lambda: X @ leaf_transposed.T + B,
    "on the left": lambda: (leaf_transposed @ X.T).T + B,
    "in place bias": lambda: (X @ W).add_(B),
    "linear": lambda: F.linear(X, leaf_transposed, B),
    "module": lambda: LINEAR(X),
}
leaf_transposed = leaf(3, 4)


@pytest.mark.parametrize("form", WEIGHT_FORMS)
def test_every_form_of_a_weight_layer(form):
    trace = traced(lambda: F.cross_entropy(WEIGHT_FORMS[form](), Y).backward())
    (layer,) = trace.of_kind(Kind.WEIGHT_LAYER)
    (loss,) = trace.of_kind(Kind.LOSS)
    assert layer.fan_in == 4
    assert [site.slot for site in trace.parameters_of(layer)] == ["weight", "bias"]
    assert Edge(layer.index, loss.index, direct=True) in trace.edges
    weight = trace.parameters_of(layer)[0]
    assert trace.scalar(weight, "units") == 3


def test_convolution():
    trace = traced(lambda: CONV(X[:, None]).relu().sum().backward())
    (layer,), (relu,) = trace.of_kind(Kind.WEIGHT_LAYER), trace.of_kind(Kind.ACTIVATION)
    assert (layer.op, layer.fan_in, layer.path) == ("conv1d", 2, "Conv1d")
    assert len(trace.summary(relu, Role.INPUT).units) == 3  # channels, not positions


def test_embedding_by_module_and_by_indexing():
    table, module = leaf(5, 4), nn.Embedding(5, 4)
    trace = traced(lambda: (table[Y] + module(Y)).sum().backward())
    assert [site.path or site.variable for site in trace.of_kind(Kind.EMBEDDING)] == ["table", "Embedding"]


ACTIVATION_FORMS = {
    "function": torch.tanh,
    "method": lambda h: h.tanh(),
    "in place": lambda h: h.tanh_(),
    "module": nn.Tanh(),
}


@pytest.mark.parametrize("form", ACTIVATION_FORMS)
def test_every_form_of_an_activation_is_measured_before_it_runs(form):
    w = leaf(4, 3, scale=2.0)
    trace = traced(lambda: ACTIVATION_FORMS[form](X @ w).sum().backward())
    (site,) = trace.of_kind(Kind.ACTIVATION)
    pre = (X @ w).detach().double()
    summary = trace.summary(site, Role.INPUT)
    assert summary.std == pytest.approx(pre.std(correction=0).item())
    assert summary.outside == (pre.abs() > 2.0845).sum().item()
    assert summary.units.outside.tolist() == (pre.abs() > 2.0845).sum(0).tolist()


@pytest.mark.parametrize("form", [F.relu, F.relu_, torch.relu, torch.relu_, nn.ReLU(), nn.ReLU(inplace=True)])
def test_relu_inactive_includes_zero(form):
    w = torch.zeros(4, 3).requires_grad_()
    trace = traced(lambda: form(X @ w).sum().backward())
    (site,) = trace.of_kind(Kind.ACTIVATION)
    assert trace.summary(site, Role.INPUT).outside_fraction == 1.0


def test_gradients_are_those_of_autograd():
    w1, w2 = leaf(4, 5), leaf(5, 3)

    def step():
        w1.grad = w2.grad = None
        h = torch.tanh(X @ w1)
        F.cross_entropy(h @ w2, Y).backward()

    trace = traced(step)
    h = torch.tanh(X @ w1)
    h.retain_grad()
    logits = h @ w2
    logits.retain_grad()
    g1, g2, gh, gl = torch.autograd.grad(F.cross_entropy(logits, Y), (w1, w2, h, logits))
    first, second = trace.of_kind(Kind.WEIGHT_LAYER)
    (activation,) = trace.of_kind(Kind.ACTIVATION)
    for site, role, tensor in [
        (trace.parameters_of(first)[0], Role.GRADIENT, g1),
        (trace.parameters_of(second)[0], Role.GRADIENT, g2),
        (activation, Role.OUTPUT_GRADIENT, gh),
        (second, Role.OUTPUT_GRADIENT, gl),
    ]:
        assert trace.summary(site, role).norm == pytest.approx(tensor.double().norm().item(), rel=1e-6)


def test_loss_call_and_baseline():
    w = leaf(4, 3)
    trace = traced(lambda: F.cross_entropy(X @ w, Y, reduction="none").mean().backward())
    (call,) = trace.loss_at_start()
    assert call.value == pytest.approx(F.cross_entropy(X @ w, Y).item())
    assert call.baseline == pytest.approx(math.log(3))
    assert trace.objective[0] == pytest.approx(call.value)


def test_a_summed_loss_is_recorded_per_term():
    w = leaf(4, 3)
    (call,) = traced(lambda: F.cross_entropy(X @ w, Y, reduction="sum").backward()).loss_at_start()
    assert call.value == pytest.approx(F.cross_entropy(X @ w, Y).item())
    assert call.baseline == pytest.approx(math.log(3))


def test_hand_written_loss_on_log_softmax():
    w = leaf(4, 3)
    trace = traced(lambda: (-F.log_softmax(X @ w, -1)[range(8), Y].mean()).backward())
    (call,) = trace.loss_at_start()
    assert call.value == pytest.approx(F.cross_entropy(X @ w, Y).item())
    assert call.baseline == pytest.approx(math.log(3))


def test_hand_written_loss_without_a_known_baseline():
    w = leaf(4, 3)
    (call,) = traced(lambda: (X @ w).square().mean().backward()).loss_at_start()
    assert call.baseline is None


def test_norm_dropout_softmax_and_what_feeds_what():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3))
    trace = traced(lambda: F.nll_loss(F.log_softmax(net(X), 1), Y).backward())
    by_op = {site.op: site for site in trace.sites if site.kind is not Kind.PARAMETER}
    first, last = trace.of_kind(Kind.WEIGHT_LAYER)
    norm, tanh, dropout, softmax, loss = (
        by_op[op] for op in ("batch_norm", "tanh", "dropout", "log_softmax", "nll_loss")
    )
    assert trace.consumers(first) == [norm]
    assert trace.consumers(norm) == [tanh]
    assert {site.index for site in trace.producers(last)} == {tanh.index, dropout.index}
    assert trace.consumers(last) == [softmax]
    assert trace.consumers(softmax) == [loss]
    assert trace.scalar(softmax, "classes") == 3
    assert [site.path for site in (first, norm, tanh, dropout, last)] == ["0", "1", "2", "3", "4"]


def test_an_operation_in_between_is_an_indirect_edge():
    w = leaf(4, 3)
    trace = traced(lambda: torch.tanh(5 * (X @ w)).sum().backward())
    assert {edge.direct for edge in trace.edges if trace.sites[edge.consumer].op == "tanh"} == {False}


def test_detach_leaves_an_indirect_edge_and_a_missing_gradient():
    w1, w2 = leaf(4, 5), leaf(5, 3)
    trace = traced(lambda: F.cross_entropy(torch.tanh(X @ w1).detach() @ w2, Y).backward())
    first, second = trace.of_kind(Kind.WEIGHT_LAYER)
    assert trace.scalar(trace.parameters_of(first)[0], "gradient_missing") == 1.0
    assert trace.scalar(trace.parameters_of(second)[0], "gradient_missing") == 0.0
    (tanh,) = trace.of_kind(Kind.ACTIVATION)
    assert trace.producers(second) == []
    assert trace.producers(second, direct=False) == [tanh]


def test_recurrent_layer_is_one_site_with_its_parameters():
    gru = nn.GRU(4, 6, batch_first=True)
    trace = traced(lambda: gru(X[None])[0].sum().backward())
    (site,) = trace.of_kind(Kind.RECURRENT)
    assert [p.label for p in trace.parameters_of(site)] == [f"GRU.{name}" for name, _ in gru.named_parameters()]


def test_where_nan_is_born():
    w = leaf(4, 3)

    def step():
        h = X @ w
        mask = torch.zeros(3).masked_fill(torch.tensor([True, False, False]), -math.inf)
        ((h + mask).softmax(-1) / torch.zeros(3)).sum().backward()

    trace = traced(step)
    born, broke = trace.of_kind(Kind.OPERATION)
    assert born.op in ("div", "__truediv__")
    assert trace.summary(born, Role.OUTPUT).nonfinite > 0
    assert (broke.op, broke.location) == ("div", born.location)
    assert trace.scalar(broke, "made_nonfinite") > 0


class TestModulesThatLayersShare:
    """`self.act = nn.Sigmoid()`, called behind each layer: a place behind each; a shared norm stays one."""

    @pytest.mark.parametrize(
        ("shared", "kind", "places"), [(nn.Sigmoid(), Kind.ACTIVATION, 3), (nn.LayerNorm(4), Kind.NORM, 1)]
    )
    def test_places(self, shared, kind, places):
        layers = [nn.Linear(4, 4) for _ in range(3)]
        net = nn.Sequential(layers[0], shared, layers[1], shared, layers[2], shared)
        for _ in range(2):
            trace = traced(lambda: net(X).sum().backward())
        found = trace.of_kind(kind)
        assert len(found) == places
        if places == 3:
            assert [trace.producers(site)[0].path for site in found] == ["0", "2", "4"]
            assert [site.label for site in found] == ["1 (sigmoid)", "1 (sigmoid) #2", "1 (sigmoid) #3"]


class TestDataThatBreaks:
    """A place of its own where an operation on data makes infinities of it; none for data that come so."""

    def operations(self, make, data):
        w = leaf(4, 2)

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(w.detach().clone())

            def forward(self, x):
                return make(x) @ self.w

        net = Net()
        trace = traced(lambda: net(data).sum().backward())
        return trace.of_kind(Kind.OPERATION), trace

    def test_what_a_loop_does_to_its_data(self):
        w = leaf(4, 2)
        trace = traced(lambda: (torch.zeros(5, 4).log() @ w).sum().backward())
        assert trace.of_kind(Kind.OPERATION) == []

    @pytest.mark.parametrize("value", [math.nan, math.inf, 2.0, 1.0])
    def test_silent(self, value):
        assert self.operations(torch.log, torch.full((4, 4), value))[0] == []

    def test_masks_and_constants(self):
        assert self.operations(lambda x: x + torch.tensor([0.0, 1.0, 1.0, 1.0]).log().nan_to_num(), X)[0] == []
        assert self.operations(lambda x: x + torch.full((4,), math.inf).clamp(max=0.0), X)[0] == []

    def test_logarithm_of_zero(self):
        (log,), trace = self.operations(torch.log, torch.tensor([[0.0, 2.0, 3.0, 4.0]] * 5))
        assert (log.op, trace.summary(log, Role.OUTPUT).nonfinite) == ("log", 5)
        (layer,) = trace.of_kind(Kind.WEIGHT_LAYER)
        assert trace.producers(layer, direct=False) == [log]

    def test_logarithm_of_whole_numbers(self):
        (log,), _ = self.operations(torch.log, torch.tensor([[0, 2, 3, 4]] * 5))
        assert log.op == "log"

    def test_a_layer_that_was_there_before_is_not_taken_for_the_first(self):
        w = leaf(4, 2)
        counts = iter([1.0, 1.0, 0.0])

        def step():
            h = (X @ w).sum(0) / torch.tensor(next(counts))
            (h[None] @ w.T).sum().backward()

        net = nn.ParameterList([w])
        optimizer = torch.optim.SGD(net, lr=0.0)
        with unstuck.watch() as run:
            for _ in range(3):
                optimizer.zero_grad()
                step()
                optimizer.step()
        assert first_place(run.report().trace, {2})[3].op == "div"

    def test_division_by_zero(self):
        (div,), trace = self.operations(lambda x: x / x.new_zeros(4), X)
        assert trace.summary(div, Role.OUTPUT).nonfinite == X.numel()


def test_names_and_lines():
    w = leaf(4, 3)
    params = [leaf(3, 3)]
    net = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3)))

    def step():
        h = X @ w
        h = h @ params[0]
        net(h).sum().backward()

    trace = traced(step)
    layers = trace.of_kind(Kind.WEIGHT_LAYER)
    assert [site.label for site in layers] == ["w (matmul)", "params[0] (matmul)", "0 (linear)", "1.0 (linear)"]
    first_line = step.__code__.co_firstlineno
    assert [site.location.line - first_line for site in layers] == [1, 2, 3, 3]
    assert all(site.location.file == __file__ for site in layers)
    assert [p.label for p in trace.parameters_of(layers[3])] == ["1.0.weight", "1.0.bias"]


def test_a_layer_class_called_in_a_loop_gives_one_site_a_call():
    weights = [leaf(4, 4) for _ in range(3)]

    def step():
        h = X
        for weight in weights:
            h = torch.tanh(h @ weight)
        h.sum().backward()

    trace = traced(step, times=3)
    assert [site.ordinal for site in trace.of_kind(Kind.WEIGHT_LAYER)] == [0, 1, 2]
    assert [site.label for site in trace.of_kind(Kind.WEIGHT_LAYER)] == [
        "weight (matmul)",
        "weight (matmul) #2",
        "weight (matmul) #3",
    ]


def test_a_module_reused_in_a_step_is_one_site():
    layer, readout = nn.Linear(4, 4), nn.Linear(4, 3)
    net = nn.ModuleList([layer, readout])

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = net

        def forward(self, x):
            return readout(torch.tanh(layer(torch.tanh(layer(x)))))

    model = Net()
    trace = traced(lambda: F.cross_entropy(model(X), Y).backward())
    reused = next(site for site in trace.of_kind(Kind.WEIGHT_LAYER) if site.path == "parts.0")
    assert trace.summary(reused, Role.OUTPUT).count == 2 * 8 * 4
    assert trace.scalar(reused, "calls") == 2
    assert len(trace.of_kind(Kind.WEIGHT_LAYER)) == 2
    assert len(trace.of_kind(Kind.ACTIVATION)) == 2  # two places in the source: two sites
