"""What is kept is put back bit for bit, in place."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from stateful import Net, X, Y, bits, everything, step, written, zeros_like
from torch import nn

from unstuck.fixes.state import Snapshot


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


class TestRefused:
    @pytest.mark.parametrize("lazy", [nn.LazyLinear(3), nn.Sequential(nn.Linear(4, 4), nn.LazyBatchNorm1d())])
    def test_parameters_and_buffers_without_a_shape(self, lazy):
        with pytest.raises(ValueError, match=r"^the model has lazy parameters without a shape yet; run it once"):
            Snapshot([lazy])

    def test_lazy_ones_that_have_run_are_kept(self):
        net = nn.LazyLinear(3)
        net(X)
        kept = Snapshot([net])
        before = written(net.weight)
        with torch.no_grad():
            net.weight.zero_()
        kept.restore()
        assert written(net.weight) == before


class TestUntouched:
    def test_nothing_happened(self, net):
        versions = [p._version for p in net.parameters()]
        before = everything(net)
        Snapshot([net]).restore()
        assert everything(net) == before
        assert [p._version for p in net.parameters()] == versions

    def test_a_graph_that_is_waiting_may_still_be_walked(self, net):
        loss = F.cross_entropy(net.eval()(X), Y)
        kept = Snapshot([net])
        with torch.no_grad():
            net.head.bias.data.add_(1)
        kept.restore()
        loss.backward()
        assert net.head.bias.grad is not None


class TestTensors:
    def test_a_step_of_training(self, net):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        step(net, optimizer)
        before, kept = everything(net, optimizer), Snapshot([net], [optimizer])
        for _ in range(2):
            for _ in range(3):
                step(net.eval() if net.calls % 2 else net.train(), optimizer)
            assert everything(net, optimizer) != before
            kept.restore()
            assert everything(net, optimizer) == before

    @pytest.mark.parametrize("value", [0.0, -0.0, float("nan"), float("inf")])
    @pytest.mark.parametrize("now", [0.0, -0.0, float("nan"), 1.0])
    def test_zeros_of_either_sign_and_numbers_that_are_none(self, value, now):
        net = nn.Linear(1, 1)
        net.bias.data.fill_(value)
        kept, before = Snapshot([net]), bits(net.bias)
        net.bias.data.fill_(now)
        kept.restore()
        assert bits(net.bias) == before

    def test_another_shape_dtype_or_storage(self, net):
        before, kept = everything(net), Snapshot([net])
        net.double()
        net.head.weight.data = torch.zeros(7, 2)
        net.head.bias.data = torch.zeros(3)
        kept.restore()
        assert everything(net) == before

    @pytest.mark.parametrize(
        "value",
        [
            torch.tensor([1 + 2j, -0.0]),
            torch.tensor([1 + 2j, 3]).conj(),
            torch.tensor([1 + 2j, 3]).conj().imag,
            torch.tensor([True, False]),
            torch.arange(3),
            torch.tensor(2),
            torch.empty(0, 3),
            torch.ones(2, dtype=torch.float16),
            torch.ones(2, dtype=torch.bfloat16),
            torch.ones(2).to(torch.float8_e4m3fn),
            torch.eye(3).to_sparse(),
        ],
        ids=lambda value: f"{value.dtype} {value.layout}",
    )
    def test_buffers_of_any_type(self, value):
        net = nn.Module()
        net.register_buffer("held", value.clone())
        net.tensor = value.clone()
        kept = Snapshot([net])
        for tensor in (net.held, net.tensor):
            tensor.data.copy_(zeros_like(value))
        kept.restore()
        for tensor in (net.held, net.tensor):
            now, then = (x.to_dense().resolve_conj().resolve_neg().to(torch.complex64) for x in (tensor, value))
            assert bits(now) == bits(then)

    def test_tensors_without_data(self):
        net = nn.Linear(2, 2, device="meta")
        weight, kept = net.weight, Snapshot([net])
        net.weight = None
        kept.restore()
        assert net.weight is weight

    def test_tied_ones_stay_tied(self, net):
        kept = Snapshot([net])
        net.body[3].weight = nn.Parameter(torch.zeros(4, 4))
        kept.restore()
        assert net.body[3].weight is net.body[0].weight

    @pytest.mark.parametrize("had", [True, False])
    @pytest.mark.parametrize("gets", [True, False])
    def test_gradients_stay_the_same_tensors(self, net, had, gets):
        if had:
            F.cross_entropy(net(X), Y).backward()
        before, kept = everything(net), Snapshot([net])
        net.zero_grad(set_to_none=not gets)
        if gets:
            F.cross_entropy(net(X), Y).backward()
        kept.restore()
        assert everything(net) == before

    def test_sparse_gradients(self):
        net = nn.Embedding(5, 2, sparse=True)
        net(torch.tensor([1, 2])).sum().backward()
        gradient, before = net.weight.grad, net.weight.grad.to_dense().clone()
        kept = Snapshot([net])
        net.weight.grad = None
        net(torch.tensor([4])).sum().backward()
        kept.restore()
        assert net.weight.grad is gradient
        assert torch.equal(net.weight.grad.to_dense(), before)

    def test_frozen_ones_stay_frozen(self, net):
        net.head.weight.requires_grad_(False)
        before, kept = everything(net), Snapshot([net])
        for p in net.parameters():
            p.requires_grad_(not p.requires_grad)
        kept.restore()
        assert everything(net) == before

    def test_further_tensors(self):
        loose = torch.ones(3, requires_grad=True)
        kept = Snapshot([], tensors=[loose])
        loose.sum().backward()
        loose.data.zero_()
        kept.restore()
        assert loose.tolist() == [1, 1, 1]
        assert loose.grad is None

    def test_values_of_parameters_may_be_left(self, net):
        kept = Snapshot([net])
        running = bits(net.body[1].running_mean)
        F.cross_entropy(net(X), Y).backward()
        net.head.bias.data.fill_(9.0)
        kept.restore(parameter_values=False)
        assert net.head.bias.tolist() == [9, 9, 9]
        assert net.head.bias.grad is None
        assert bits(net.body[1].running_mean) == running

    def test_values_alone(self, net):
        kept = Snapshot([net])
        before = [bits(t) for t in (*net.parameters(), *net.buffers())]
        step(net, torch.optim.SGD(net.parameters(), 0.1))
        drawn = torch.get_rng_state()
        kept.restore_values()
        assert [bits(t) for t in (*net.parameters(), *net.buffers())] == before
        assert torch.equal(torch.get_rng_state(), drawn)
        assert net.head.bias.grad is not None

    def test_some_renewed(self, net):
        kept = Snapshot([net])
        weight = bits(net.head.weight)
        net.head.bias.data.fill_(5.0)
        net.head.weight.data.fill_(5.0)
        kept.renew([net.head.bias, torch.zeros(1)])
        net.head.bias.data.fill_(7.0)
        kept.restore()
        assert net.head.bias.tolist() == [5, 5, 5]
        assert bits(net.head.weight) == weight


class TestStructure:
    def test_submodules_replaced_added_and_taken_away(self, net):
        before, kept = everything(net), Snapshot([net])
        net.body.insert(1, nn.LayerNorm(4))
        net.body[0] = nn.Linear(4, 4)
        net.head = nn.Sequential(net.head, nn.Identity())
        net.extra = nn.Linear(1, 1)
        del net.body[4]
        kept.restore()
        assert everything(net) == before

    def test_parameters_and_buffers_replaced_added_and_dropped(self, net):
        before, kept = everything(net), Snapshot([net])
        net.head.bias = None
        net.head.weight = nn.Parameter(torch.zeros(3, 4))
        net.extra = nn.Parameter(torch.zeros(1))
        net.register_buffer("seen", torch.ones(2), persistent=True)
        net.register_buffer("more", torch.ones(2))
        kept.restore()
        assert everything(net) == before

    def test_attributes(self, net):
        before, kept = everything(net), Snapshot([net])
        net.calls, net.name, net.more, net.others = "many", None, 3, {}
        net.history.clear()
        net.last = [7]
        net.mask *= 3
        kept.restore()
        assert everything(net) == before

    def test_weights_that_a_recurrent_module_lists(self):
        net = nn.GRU(2, 3)
        x = torch.randn(5, 1, 2)
        expected, kept = net(x)[0], Snapshot([net])
        net.weight_ih_l0 = nn.Parameter(torch.zeros(9, 2))
        assert not torch.equal(net(x)[0], expected)
        kept.restore()
        assert torch.equal(net(x)[0], expected)

    def test_what_an_attribute_of_another_type_refers_to_is_not_touched(self, net):
        net.helper = object()
        kept = Snapshot([net])
        net.helper = other = object()
        kept.restore()
        assert net.helper is other


def sgd(net: Net) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)


def adam(net: Net) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), 0.01)


def amsgrad(net: Net) -> torch.optim.Optimizer:
    groups = [{"params": net.body.parameters(), "lr": 0.02}, {"params": [*net.head.parameters(), net.wide]}]
    return torch.optim.AdamW(groups, 0.01, amsgrad=True)


def tensor_rate(net: Net) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), torch.tensor(0.01), foreach=False)


@pytest.mark.parametrize("make", [sgd, adam, amsgrad, tensor_rate])
@pytest.mark.parametrize("steps_before", [0, 2])
class TestOptimizers:
    def test_state_groups_and_what_a_scheduler_set(self, net, make, steps_before):
        optimizer = make(net)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        for _ in range(steps_before):
            step(net, optimizer)
            scheduler.step()
        before, kept = everything(net, optimizer), Snapshot([net], [optimizer])
        for _ in range(2):
            for _ in range(2):
                step(net, optimizer)
                scheduler.step()
            assert everything(net, optimizer) != before
            kept.restore()
            assert everything(net, optimizer) == before

    def test_training_goes_on_as_if_nothing_had_been(self, net, make, steps_before):
        twin = copy.deepcopy(net)
        pair = [(net, make(net)), (twin, make(twin))]
        for model, optimizer in pair:
            for _ in range(steps_before):
                torch.manual_seed(1)
                step(model, optimizer)
        kept = Snapshot([net], [pair[0][1]])
        step(*pair[0])
        kept.restore()
        for model, optimizer in pair:
            torch.manual_seed(2)
            step(model, optimizer)
            step(model, optimizer)
        assert [bits(p) for p in net.parameters()] == [bits(p) for p in twin.parameters()]

    def test_groups_and_parameters_added_and_taken_away(self, net, make, steps_before):
        optimizer = make(net)
        for _ in range(steps_before):
            step(net, optimizer)
        before, kept = everything(net, optimizer), Snapshot([net], [optimizer])
        first = optimizer.param_groups[0]
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": 7.0})
        del first["params"][0]
        first["betas"] = "other"
        first["more"] = 1
        optimizer.param_groups.reverse()
        optimizer.param_groups.pop()
        optimizer.register_step_pre_hook(lambda *_: None)
        kept.restore()
        assert everything(net, optimizer) == before
        assert optimizer.param_groups[0] is first
        assert not optimizer._optimizer_step_pre_hooks
