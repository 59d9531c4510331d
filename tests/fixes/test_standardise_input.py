"""Data standardised in front of the first layer: the numbers, the module that does it, and where it is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import unstuck
from unstuck.findings import Finding, Severity
from unstuck.fixes.engine import patient_of
from unstuck.fixes.remedy import Patient, Withheld
from unstuck.fixes.standardise_input import StandardisedInput, StandardiseInput, moments
from unstuck.fixes.task import Task
from unstuck.stats.reference import summarise
from unstuck.trace import Kind


def uneven(*shape: int, dim: int = 1, seed: int = 0) -> Tensor:
    """Features of different means and scales along `dim`, the last of them constant."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    per = [1] * len(shape)
    per[dim] = -1
    n = shape[dim]
    scale, mean = 10.0 ** torch.linspace(-2, 2, n), torch.linspace(-50, 80, n)
    scale[-1] = 0.0
    return x * scale.reshape(per) + mean.reshape(per)


def naive(batches: list[Tensor], dim: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.concatenate([np.moveaxis(x.double().numpy(), dim, 0).reshape(x.shape[dim], -1) for x in batches], axis=1)
    std = rows.std(axis=1)
    return rows.mean(axis=1), np.where(std > 1e-6 * np.abs(rows).max(axis=1), std, 1.0)


class Holder(nn.Module):
    """One layer held by an attribute, and what comes behind it."""

    def __init__(self, first: nn.Module, rest: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.first, self.rest, self.head = first, rest, nn.LazyLinear(3)

    def forward(self, x: Any) -> Tensor:
        return self.head(self.rest(self.first(x)))


def conv2d() -> Holder:
    return Holder(nn.Conv2d(3, 8, 3), lambda h: h.relu().flatten(1))


def gru() -> Holder:
    return Holder(nn.GRU(4, 8, batch_first=True), lambda out: out[0][:, -1])


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "linear": (linear, (16, 5), 1),
    "linear on sequences": (lambda: Holder(nn.Linear(5, 8), lambda h: h.tanh().mean(1)), (16, 7, 5), 2),
    "conv2d": (conv2d, (6, 3, 8, 8), 1),
    "conv1d": (lambda: Holder(nn.Conv1d(4, 8, 3), lambda h: h.relu().mean(2)), (6, 4, 9), 1),
    "gru": (gru, (6, 7, 4), 2),
}


def watched(net: nn.Module, batches: list[Tensor], **options: Any) -> Patient:
    """A patient whose training has been watched."""
    net(batches[0])  # gives lazy layers their shape
    pairs = [(x, torch.arange(len(x)) % 3) for x in batches]
    task = Task(net, pairs, F.cross_entropy, limit=9, **options)
    return patient_of(task, task.train(len(pairs)).session)


def finding(patient: Patient, path: str | None) -> Finding:
    """D001 at the layer of this path, the first one of all for an empty path."""
    sites = [s for s in patient.trace.of_kind(Kind.WEIGHT_LAYER, Kind.RECURRENT) if path in ("", s.path)]
    index, label = (sites[0].index, sites[0].label) if sites else (None, "x")
    return Finding(
        "D001", "unscaled-input", Severity.WARNING, label, None, (0, 1), 70.0, 10.0, "1", "wide", site_index=index
    )


def made(kind: str) -> tuple[nn.Module, list[Tensor], StandardisedInput, Any]:
    """A network with its first layer standardised, and the batches that were seen."""
    torch.manual_seed(0)
    make, shape, dim = KINDS[kind]
    net, batches = make(), [uneven(*shape, dim=dim, seed=seed) for seed in range(3)]
    patient = watched(net, batches)
    path = "0" if isinstance(net, nn.Sequential) else "first"
    (fix,) = StandardiseInput().apply(patient, finding(patient, path))
    module = net[0] if isinstance(net, nn.Sequential) else net.first
    assert isinstance(module, StandardisedInput)
    return net, batches, module, fix


class TestRefused:
    def refused(self, net: nn.Module, path: str | None, message: str, **options: Any) -> None:
        patient = watched(net, [uneven(16, 5)], **options)
        before, modules = copy.deepcopy(net.state_dict()), list(net.modules())
        with pytest.raises(Withheld, match=rf"^{message}$"):
            StandardiseInput().apply(patient, finding(patient, path))
        assert list(net.modules()) == modules
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())

    def test_loaded_weights(self):
        self.refused(linear(), "0", "the network has loaded weights", pretrained=True)

    def test_a_finding_without_a_place(self):
        self.refused(linear(), None, "the finding names no layer")

    def test_a_layer_that_is_not_given_data(self):
        self.refused(linear(), "2", r"2 \(linear\) has no parameters, or its features are not known")

    def test_a_model_that_is_one_layer(self):
        self.refused(nn.Linear(5, 3), "", "it is the model itself")

    def test_a_layer_in_two_places(self):
        first = nn.Linear(5, 5)
        self.refused(nn.Sequential(first, nn.Tanh(), first, nn.Linear(5, 3)), "0", "it stands in 2 places of the model")

    def test_a_weight_of_two_modules(self):
        net = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 3))
        net[2].weight = net[0].weight
        self.refused(net, "0", "its parameters belong to two modules")

    def test_raw_tensors(self):
        class Raw(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weights = [torch.randn(3, 5, requires_grad=True)]
                self.scale = nn.Parameter(torch.ones(()))

            def forward(self, x: Tensor) -> Tensor:
                return F.linear(x, self.weights[0]) * self.scale

        patient = watched(Raw(), [uneven(16, 5)])
        (site,) = patient.trace.of_kind(Kind.WEIGHT_LAYER)
        found = Finding("D001", "x", Severity.WARNING, "", None, (0, 1), 1, 1, "1", "", site_index=site.index)
        with pytest.raises(Withheld, match=r"^its parameters belong to no module$"):
            StandardiseInput().apply(patient, found)


class TestMoments:
    @pytest.mark.parametrize("dim", [0, 1, 2])
    def test_they_are_mean_and_standard_deviation(self, dim):
        x = uneven(4, 5, 6, dim=dim)
        mean, std = moments(summarise(x, unit_dim=dim).units)
        expected = naive([x], dim)
        np.testing.assert_allclose(mean, expected[0], rtol=1e-6)
        np.testing.assert_allclose(std, expected[1], rtol=1e-4)

    def test_what_is_not_finite_is_left_out(self):
        x = uneven(50, 3)
        y = torch.cat([x, torch.tensor([[torch.nan, torch.inf, 0.0]])])
        y[-1, 2] = x[0, 2]
        np.testing.assert_allclose(moments(summarise(y, unit_dim=1).units)[0], naive([x], 1)[0], rtol=1e-6)

    @pytest.mark.parametrize("value", [0.0, 3.3, -1e6, 1e-20])
    def test_constant_features_are_centred_alone(self, value):
        mean, std = moments(summarise(torch.full((100, 1), value), unit_dim=1).units)
        assert mean[0] == pytest.approx(value, rel=1e-6)
        assert std[0] == 1.0


@pytest.mark.parametrize("kind", KINDS)
class TestApplied:
    def test_buffers_hold_the_moments_of_all_batches(self, kind):
        _, batches, module, _ = made(kind)
        mean, std = naive(batches, KINDS[kind][2])
        np.testing.assert_allclose(module.mean.flatten(), mean, rtol=1e-5)
        np.testing.assert_allclose(module.std.flatten(), std, rtol=1e-3)

    def test_the_layer_is_given_standardised_features(self, kind):
        net, batches, module, _ = made(kind)
        given: list[Tensor] = []
        module.layer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
        for x in batches:
            net(x)
        dim = KINDS[kind][2]
        rows = torch.cat([g.movedim(dim, 0).flatten(1) for g in given], 1)
        torch.testing.assert_close(rows.mean(1), torch.zeros(len(rows)), atol=2e-4, rtol=0)
        torch.testing.assert_close(rows[:-1].std(1, unbiased=False), torch.ones(len(rows) - 1), atol=1e-3, rtol=0)
        assert rows[-1].abs().max() < 1e-3

    def test_what_is_said(self, kind):
        _, batches, module, fix = made(kind)
        everything = torch.cat([x.flatten() for x in batches])
        assert (fix.code, fix.site) == ("D001", "0" if kind == "linear" else "first")
        assert fix.before == pytest.approx(everything.square().mean().sqrt().item(), rel=1e-4)
        features = KINDS[kind][1][KINDS[kind][2]]
        assert fix.after == pytest.approx((1 - 1 / features) ** 0.5, rel=1e-3)  # the last one is constant
        names: dict[str, Any] = {"torch": torch, "x": batches[0]}
        exec(fix.snippet, names)  # the snippet does the same
        path = fix.site
        assert fix.snippet.splitlines()[1] == (
            f"# mended here, state_dict() has {path}.layer.* for {path}.*, and {path}.mean and .std"
        )
        expected = (batches[0] - module.mean) / module.std
        torch.testing.assert_close(names["x"], expected, atol=1e-2, rtol=1e-3)

    def test_it_is_saved_with_the_model(self, kind):
        net, batches, _, _ = made(kind)
        state = net.state_dict()
        assert len([name for name in state if name.endswith((".mean", ".std"))]) == 2
        assert len(list(net.parameters())) == len({id(p) for p in net.parameters()})
        net.eval()
        copies = (
            [copy.deepcopy(net)] if isinstance(net, Holder) else [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
        )
        for other in copies:
            assert torch.equal(other(batches[0]), net(batches[0]))
            assert other.state_dict().keys() == state.keys()
        copies[0].load_state_dict(state)


class TestModule:
    def test_attributes_are_those_of_the_layer(self):
        layer = nn.GRU(4, 8, batch_first=True)
        module = StandardisedInput(layer, torch.zeros(4), torch.ones(4))
        assert (module.hidden_size, module.batch_first) == (8, True)
        assert module.weight_ih_l0 is layer.weight_ih_l0
        assert module.layer is layer
        with pytest.raises(AttributeError, match="'GRU' object has no attribute 'missing'"):
            _ = module.missing
        assert not hasattr(module, "missing")

    @pytest.mark.parametrize("training", [True, False])
    def test_its_mode_is_that_of_the_layer(self, training):
        module = StandardisedInput(nn.Dropout().train(training), torch.zeros(1), torch.ones(1))
        assert module.training is module.layer.training is training

    def test_further_arguments_are_passed_on(self):
        layer = nn.GRU(2, 3)
        module = StandardisedInput(layer, torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
        x, h = torch.randn(5, 1, 2), torch.randn(1, 1, 3)
        expected = layer((x - module.mean) / module.std, h)[0]
        for out, _ in (module(x, h), module(x, hx=h), module(input=x, hx=h)):
            assert torch.equal(out, expected)

    def test_packed_sequences(self):
        layer = nn.GRU(2, 3)
        module = StandardisedInput(layer, torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
        sequences = [torch.randn(n, 2) for n in (4, 2)]
        out, _ = module(pack_sequence(sequences))
        expected, _ = layer(pack_sequence([(s - module.mean) / module.std for s in sequences]))
        assert isinstance(out, PackedSequence)
        torch.testing.assert_close(out.data, expected.data)

    def test_without_its_layer_it_says_so(self):
        bare = StandardisedInput.__new__(StandardisedInput)
        nn.Module.__init__(bare)
        with pytest.raises(AttributeError, match="layer"):
            _ = bare.anything


def loop(**watching: bool) -> tuple[unstuck.Run, nn.Module, list[float]]:
    """Train a classifier of bytes, which nobody has scaled."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    g, losses = torch.Generator().manual_seed(1), []
    with unstuck.watch(every=1, **watching) as run:
        for _ in range(40):
            x = torch.randint(0, 256, (64, 8), generator=g).float()
            loss = F.cross_entropy(net(x), (x[:, 0] > x[:, 1]).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert run.session.trace.facts.internal_error is None
    return run, net, losses


class TestInFlight:
    def test_not_without_unsafe(self):
        run, net, losses = loop(fix=True)
        assert run.fixes == ()
        assert losses == loop()[2]
        assert not any(isinstance(module, StandardisedInput) for module in net.modules())

    def test_it_is_put_in_and_the_training_begins_again(self):
        run, net, losses = loop(unsafe_fixes=True)
        fix = next(fix for fix in run.fixes if fix.name == "standardise-input")
        assert isinstance(net[0], StandardisedInput)
        assert net[0].mean.tolist() == pytest.approx([127.5] * 8, abs=15)
        assert net[0].std.tolist() == pytest.approx([74] * 8, abs=10)
        assert fix.step > 0
        assert losses[-1] < loop()[2][-1]
        assert "D001" not in run.report().codes()


def test_through_the_engine():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2)), 100 + 100 * torch.rand(64, 4)
    report = unstuck.fix(net, (x, (x[:, 0] > x[:, 1]).long()), F.cross_entropy, unsafe=True, steps=100)
    kept = [fix.name for fix in report.fixes if fix.kept]
    assert "standardise-input" in kept
    assert isinstance(net[0], StandardisedInput)
