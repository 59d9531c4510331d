"""Operations of every kind: custom functions, einsum, attention, norms, recurrent cells, convolutions; and identity."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.capture.session import Session
from unstuck.trace import Kind, Role

from .watching import X, Y, leaf, ops, traced


class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x) * x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


def test_a_custom_function_is_a_site_that_is_not_guessed():
    w = leaf(4, 3)
    trace = traced(lambda: Sine.apply(X @ w).sum().backward())
    (site,) = trace.of_kind(Kind.CUSTOM)
    (layer,) = trace.of_kind(Kind.WEIGHT_LAYER)
    assert site.op == "Sine"
    assert trace.producers(site) == [layer]
    assert trace.of_kind(Kind.ACTIVATION) == []
    assert trace.summary(site, Role.OUTPUT_GRADIENT).total == 8 * 3


EINSUMS = {
    "bi,ij->bj": ((4, 3), 4, 3),
    "bi,ji->bj": ((3, 4), 4, 3),
    "bi, i -> b": ((4,), 4, None),
}


@pytest.mark.parametrize("equation", EINSUMS)
@pytest.mark.parametrize("as_list", [False, True])
def test_einsum_with_one_parameter(equation, as_list):
    shape, fan_in, units = EINSUMS[equation]
    w = leaf(*shape)
    trace = traced(lambda: torch.einsum(equation, *([[X, w]] if as_list else [X, w])).square().sum().backward())
    (layer,) = trace.of_kind(Kind.WEIGHT_LAYER)
    assert (layer.op, layer.fan_in) == ("einsum", fan_in)
    assert trace.scalar(trace.parameters_of(layer)[0], "units") == units


def test_einsum_over_heads_counts_what_is_summed():
    w = leaf(2, 5, 4)
    trace = traced(lambda: torch.einsum("bd,hkd->bhk", X, w).sum().backward())
    assert trace.of_kind(Kind.WEIGHT_LAYER)[0].fan_in == 4


def test_fused_attention_is_a_site():
    w = leaf(4, 12)

    def step():
        q, k, v = (X[None] @ w).chunk(3, dim=-1)
        F.scaled_dot_product_attention(q, k, v).sum().backward()

    trace = traced(step)
    (site,), (layer,) = trace.of_kind(Kind.ATTENTION), trace.of_kind(Kind.WEIGHT_LAYER)
    assert trace.producers(site, direct=False) == [layer]
    assert trace.producers(site) == []


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_is_looked_into(need_weights):
    mha = nn.MultiheadAttention(4, 2, batch_first=True)
    x = X[None]
    expected = mha(x, x, x, need_weights=need_weights)[0]
    seen = []

    def step():
        out, _ = mha(x, x, x, need_weights=need_weights)
        seen.append(out.detach())
        out.sum().backward()

    trace = traced(step)
    layers = trace.of_kind(Kind.WEIGHT_LAYER)
    assert [p.label for layer in layers for p in trace.parameters_of(layer)] == [
        "in_proj_weight",
        "in_proj_bias",
        "out_proj.weight",
        "out_proj.bias",
    ]
    assert len(trace.of_kind(Kind.ATTENTION if not need_weights else Kind.SOFTMAX)) == 1
    assert torch.equal(seen[0], expected)


def test_separate_projections_belong_to_their_stacked_weight():
    mha = nn.MultiheadAttention(4, 1)
    trace = traced(lambda: mha(X[:, None], X[:, None] * 2, X[:, None] * 3)[0].sum().backward())
    names = {p.label for layer in trace.of_kind(Kind.WEIGHT_LAYER) for p in trace.parameters_of(layer)}
    assert names == {name for name, _ in mha.named_parameters()}


def test_evaluation_takes_the_same_fused_path_as_unwatched():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        expected = layer(x)
    with Session(), torch.no_grad():
        assert torch.equal(layer(x), expected)


def test_transformer_layer_trains_bit_identically():
    def losses():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
        values = []
        for _ in range(14):
            optimizer.zero_grad()
            loss = layer(torch.randn(2, 5, 8)).square().mean()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        return values

    expected = losses()
    with Session() as session:
        assert losses() == expected
    assert session.trace.facts.internal_error is None
    assert ops(session.trace, Kind.WEIGHT_LAYER) == ["linear"] * 4
    assert ops(session.trace, Kind.ACTIVATION) == ["relu"]


NORMS = {
    "batch": (nn.BatchNorm1d(4), 2),
    "layer": (nn.LayerNorm(4), 2),
    "group": (nn.GroupNorm(2, 4), 2),
    "instance": (nn.InstanceNorm1d(4, affine=True), 2),
    "rms": (nn.RMSNorm(4), 1),
    "local response": (nn.LocalResponseNorm(2), 0),
    "torch.batch_norm": (lambda x: torch.batch_norm(x, GAIN, SHIFT, None, None, True, 0.1, 1e-5, False), 2),
}
GAIN, SHIFT = leaf(4), leaf(4)


@pytest.mark.parametrize("norm", NORMS)
def test_every_normalisation(norm):
    function, parameters = NORMS[norm]
    w = leaf(4, 4)
    positions = {"instance": 3, "local response": 3}.get(norm)

    def step():
        h = X @ w
        function(h if positions is None else h[:, :, None] * torch.arange(1.0, 1 + positions)).sum().backward()

    trace = traced(step)
    (site,) = trace.of_kind(Kind.NORM)
    assert len(trace.parameters_of(site)) == parameters


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_recurrent_cells(cell):
    module = cell(4, 5)

    def step():
        out = module(X)
        (out[0] if isinstance(out, tuple) else out).sum().backward()

    (site,) = traced(step).of_kind(Kind.RECURRENT)
    assert len(site.parameters) == 4


CONVOLUTIONS = {
    "Conv1d": (1, 2 * 3),
    "Conv2d": (2, 2 * 9),
    "Conv3d": (3, 2 * 27),
    "ConvTranspose1d": (1, 2 * 3),
    "ConvTranspose2d": (2, 2 * 9),
    "ConvTranspose3d": (3, 2 * 27),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_every_convolution(kind):
    dims, fan_in = CONVOLUTIONS[kind]
    conv = getattr(nn, kind)(2, 6, 3)
    trace = traced(lambda: torch.tanh(conv(torch.randn(2, 2, *[5] * dims))).sum().backward())
    (layer,), (tanh,) = trace.of_kind(Kind.WEIGHT_LAYER), trace.of_kind(Kind.ACTIVATION)
    assert layer.fan_in == fan_in
    assert trace.scalar(trace.parameters_of(layer)[0], "units") == 6
    assert len(trace.summary(tanh, Role.INPUT).units) == 6


def test_a_dropped_layer_shifts_nobodys_place():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(4)])

        def forward(self, x, kept):
            for block in self.blocks:
                if block in kept:
                    x = x + F.gelu(block(x))
            return x

    torch.manual_seed(0)
    model = Net()
    with Session() as session:
        for step in range(8):
            kept = [block for k, block in enumerate(model.blocks) if (step >> (k % 3)) & 1 or k == step % 4]
            model(X, kept).sum().backward()
            for p in model.parameters():
                p.data -= 0.01 if p.grad is None else 0.01 * p.grad
    trace = session.trace
    gelus = trace.of_kind(Kind.ACTIVATION)
    assert sorted(trace.producers(site)[0].path for site in gelus) == [f"blocks.{k}" for k in range(4)]
    assert all(len(trace.producers(site)) == 1 for site in gelus)
    assert sorted(site.label for site in gelus) == ["gelu", "gelu #2", "gelu #3", "gelu #4"]


def test_a_loop_of_any_length_keeps_its_first_turns():
    w = leaf(4, 4)
    with Session() as session:
        for turns in (3, 1, 5, 2):
            h = X
            for _ in range(turns):
                h = torch.tanh(h @ w)
            h.sum().backward()
            w.data -= 0.01 * w.grad
    layers = session.trace.of_kind(Kind.WEIGHT_LAYER)
    assert len(layers) == 5
    assert [len(session.trace.summaries(site, Role.OUTPUT)) for site in layers] == [4, 3, 2, 1, 1]


def test_models_one_after_another_each_have_their_parameters():
    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x * self.a + self.b

    with Session() as session:
        for _ in range(6):
            model = Line()
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for _ in range(2):
                optimizer.zero_grad()
                F.mse_loss(model(X[:, 0]), Y.float()).backward()
                optimizer.step()
    assert len(session.trace.of_kind(Kind.PARAMETER)) == 12


def test_indices_and_masks_carry_no_edge():
    w, table = leaf(4, 3), leaf(3, 4)
    trace = traced(lambda: (table[(X @ w).argmax(1)] * (X @ w > 0).float().sum()).sum().backward())
    (embedding,) = trace.of_kind(Kind.EMBEDDING)
    assert trace.producers(embedding, direct=False) == []


def test_attention_written_by_hand():
    wq, wk, wv = (leaf(4, 4) for _ in range(3))

    def step():
        x = X[None]
        q, k, v = x @ wq, x @ wk, x @ wv
        weights = F.softmax(q @ k.transpose(-2, -1) / 2, dim=-1)
        (weights @ v).sum().backward()

    trace = traced(step)
    q, k, v = trace.of_kind(Kind.WEIGHT_LAYER)
    (softmax,) = trace.of_kind(Kind.SOFTMAX)
    assert [site.variable for site in (q, k, v)] == ["wq", "wk", "wv"]
    assert trace.producers(softmax, direct=False) == [q, k]
    assert [site.kind for site in trace.consumers(v, direct=False)] == [Kind.LOSS]


def test_bmm_and_mv_with_a_parameter():
    w, u = leaf(2, 4, 3), leaf(3)
    trace = traced(lambda: torch.bmm(X.reshape(2, 4, 4), w)[0].mv(u).sum().backward())
    assert [(site.op, site.fan_in) for site in trace.of_kind(Kind.WEIGHT_LAYER)] == [("bmm", 4), ("mv", 3)]


def test_frames_of_trainers_are_passed_over_but_are_the_last_resort(monkeypatch):
    from unstuck.capture import site

    def fake(name, package):
        code = compile("def call(f):\n    return f()\n", f"{site._PURELIB}{package}/loop.py", "exec")
        scope = {}
        exec(code, scope)
        return scope["call"]

    trainer = fake("train", "lightning")
    w = leaf(4, 3)
    trace = traced(lambda: trainer(lambda: F.cross_entropy(X @ w, Y)).backward())
    assert trace.of_kind(Kind.WEIGHT_LAYER)[0].location.file == __file__
    monkeypatch.setattr(
        site, "_origin_of", lambda code: site.FRAMEWORK if "lightning" in code.co_filename else site.INTERNAL
    )
    trace = traced(lambda: trainer(lambda: F.cross_entropy(X @ w, Y)).backward())
    assert trace.of_kind(Kind.WEIGHT_LAYER)[0].location.file.endswith("lightning/loop.py")
