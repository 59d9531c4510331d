"""Norms in a deep plain chain: which sort where, the optimizer, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unstuck
from unstuck.findings import Finding, Severity
from unstuck.fixes.engine import patient_of
from unstuck.fixes.insert_normalisation import MIN_BATCH, InsertNormalisation
from unstuck.fixes.remedy import Patient, Withheld
from unstuck.fixes.task import Task
from unstuck.trace import Kind, Site

DEPTH = 5
WIDTH = 8


def flat(*, depth: int = DEPTH, bias: bool = True) -> nn.Sequential:
    """Linear layers and tanh in one sequence."""
    layers = [m for _ in range(depth) for m in (nn.Linear(WIDTH, WIDTH, bias), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 3))


class Held(nn.Module):
    """Layers that are attributes, of any sort, and a head behind them."""

    def __init__(self, make: Callable[[], nn.Module], end: Callable[[Tensor], Tensor] = lambda h: h) -> None:
        super().__init__()
        for k in range(DEPTH):
            setattr(self, f"layer{k}", make())
        self.end, self.head = end, nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for k in range(DEPTH):
            x = torch.tanh(getattr(self, f"layer{k}")(x))
        return self.head(self.end(x))


def linear() -> Held:
    return Held(lambda: nn.Linear(WIDTH, WIDTH))


def sequences() -> Held:
    return Held(lambda: nn.Linear(WIDTH, WIDTH), lambda h: h.mean(1))


def conv1d() -> Held:
    return Held(lambda: nn.Conv1d(WIDTH, WIDTH, 3, padding=1), lambda h: h.mean(2))


def conv2d() -> Held:
    return Held(lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1), lambda h: h.mean((2, 3)))


def conv3d() -> Held:
    return Held(lambda: nn.Conv3d(WIDTH, WIDTH, 1), lambda h: h.mean((2, 3, 4)))


def watched(net: nn.Module, shape: tuple[int, ...], **options: Any) -> tuple[Task, Patient]:
    torch.manual_seed(0)
    task = Task(net, (torch.randn(shape), torch.arange(shape[0]) % 3), F.cross_entropy, **options)
    return task, patient_of(task, task.train(2).session)


def finding(site: Site | None, measured: float = 1e4) -> Finding:
    index = None if site is None else site.index
    return Finding(
        "N006", "missing-normalisation", Severity.WARNING, "0 (linear)", None, (0, 1), measured, 100.0, "1", "deep",
        site_index=index,
    )  # fmt: skip


def applied(net: nn.Module, shape: tuple[int, ...], **options: Any) -> Any:
    """Apply the remedy to the chain that begins at the network's first layer."""
    _, patient = watched(net, shape, **options)
    return InsertNormalisation().apply(patient, finding(patient.trace.of_kind(Kind.WEIGHT_LAYER)[0]))


class TestRefused:
    def refused(self, net: nn.Module, message: str, *, site: int | None = 0, **options: Any) -> None:
        _, patient = watched(net, (16, WIDTH), **options)
        before, modules = copy.deepcopy(net.state_dict()), list(net.modules())
        found = finding(None if site is None else patient.trace.of_kind(Kind.WEIGHT_LAYER)[site])
        with pytest.raises(Withheld, match=rf"^{message}$"):
            InsertNormalisation().apply(patient, found)
        assert list(net.modules()) == modules
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())

    def test_loaded_weights(self):
        self.refused(flat(), "the network has loaded weights", pretrained=True)

    @pytest.mark.parametrize("site", [None, 1, DEPTH])
    def test_no_chain_begins_there(self, site):
        self.refused(flat(), "the chain of layers is not known any more", site=site)

    def test_raw_tensors(self):
        class Raw(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weights = [torch.randn(WIDTH, WIDTH, requires_grad=True) for _ in range(DEPTH)]
                self.head = nn.Linear(WIDTH, 3)

            def forward(self, x: Tensor) -> Tensor:
                for weight in self.weights:
                    x = torch.tanh(x @ weight)
                return self.head(x)

        self.refused(Raw(), "its parameters belong to no module")

    def test_a_module_in_two_places(self):
        net = linear()
        net.again = net.layer2
        self.refused(net, "it stands in 2 places of the model")

    def test_a_module_that_runs_twice(self):
        class Twice(Held):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) + 0 * self.layer3(x).mean()

        self.refused(Twice(lambda: nn.Linear(WIDTH, WIDTH)), "layer3 runs several times in a pass")

    def test_a_parameter_that_is_used_twice(self):
        class Tied(Held):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) + 0 * F.linear(x, self.layer3.weight, self.layer3.bias).mean()

        self.refused(Tied(lambda: nn.Linear(WIDTH, WIDTH)), r"layer3\.weight is used in another place as well")

    def test_modules_of_another_type(self):
        class Own(nn.Linear):
            pass

        net = linear()
        net.layer1 = Own(WIDTH, WIDTH)
        self.refused(net, "layer1 is a Own, not a plain linear layer or convolution")

    def test_modules_that_compute_their_weight(self):
        net = linear()
        net.layer1 = nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))
        _, patient = watched(net, (16, WIDTH))
        before = list(net.modules())
        with pytest.raises(Withheld):
            InsertNormalisation().apply(patient, finding(patient.trace.of_kind(Kind.WEIGHT_LAYER)[0]))
        assert list(net.modules()) == before

    def test_frozen_layers(self):
        net = flat()
        net[2].weight.requires_grad_(False)
        self.refused(net, "2.weight is frozen")


CASES = [
    (linear, (MIN_BATCH, WIDTH), nn.BatchNorm1d),
    (linear, (MIN_BATCH - 1, WIDTH), nn.LayerNorm),
    (sequences, (MIN_BATCH, 6, WIDTH), nn.LayerNorm),
    (sequences, (4, 6, WIDTH), nn.LayerNorm),
    (conv1d, (MIN_BATCH, WIDTH, 6), nn.BatchNorm1d),
    (conv1d, (MIN_BATCH - 1, WIDTH, 6), nn.GroupNorm),
    (conv2d, (MIN_BATCH, WIDTH, 5, 5), nn.BatchNorm2d),
    (conv2d, (MIN_BATCH - 1, WIDTH, 5, 5), nn.GroupNorm),
    (conv3d, (MIN_BATCH, WIDTH, 2, 2, 2), nn.BatchNorm3d),
]


@pytest.mark.parametrize(("make", "shape", "kind"), CASES, ids=lambda v: getattr(v, "__name__", str(v)))
class TestWhichNorm:
    def test_behind_each_layer_and_no_other(self, make, shape, kind):
        net = make()
        layers = [getattr(net, f"layer{k}") for k in range(DEPTH)]
        applied(net, shape)
        for k, layer in enumerate(layers):
            pair = getattr(net, f"layer{k}")
            assert [type(m) for m in pair] == [type(layer), kind]
            assert pair[0] is layer
            assert (layer.bias is None) is issubclass(kind, nn.modules.batchnorm._BatchNorm)
        assert type(net.head) is nn.Linear
        assert net.head.bias is not None

    def test_it_normalises(self, make, shape, kind):
        net = make()
        applied(net, shape)
        seen: list[Tensor] = []
        net.layer4.register_forward_hook(lambda _module, _args, output: seen.append(output))
        net(torch.randn(shape)).sum().backward()
        (z,) = seen
        dims = {nn.LayerNorm: (-1,), nn.GroupNorm: tuple(range(1, z.dim()))}.get(
            kind, tuple(d for d in range(z.dim()) if d != 1)
        )
        torch.testing.assert_close(z.mean(dims), torch.zeros_like(z.mean(dims)), atol=1e-4, rtol=0)
        torch.testing.assert_close(z.std(dims, unbiased=False), torch.ones_like(z.mean(dims)), atol=0.2, rtol=0)
        assert all(p.grad is not None for p in net.parameters())

    def test_what_is_said(self, make, shape, kind):
        (fix,) = applied(make(), shape)
        assert fix.site == ", ".join(f"layer{k}" for k in range(DEPTH))
        assert (fix.code, fix.before, fix.after) == ("N006", 1e4, None)
        arguments = "1, 8" if kind is nn.GroupNorm else "8"
        dropped = " (bias=False there)" if issubclass(kind, nn.modules.batchnorm._BatchNorm) else ""
        assert fix.snippet.splitlines()[1] == f"nn.{kind.__name__}({arguments})  # after layer1{dropped}"
        *_, note = fix.snippet.splitlines()
        assert len(fix.snippet.splitlines()) == DEPTH + 1
        assert note.startswith("# this changes names in state_dict(): ")


class TestSequential:
    def test_each_becomes_an_entry(self):
        net = flat()
        layers = [net[2 * k] for k in range(DEPTH)]
        applied(net, (32, WIDTH))
        assert [type(m).__name__ for m in net] == ["Linear", "BatchNorm1d", "Tanh"] * DEPTH + ["Linear"]
        assert [net[3 * k] for k in range(DEPTH)] == layers
        assert list(net._modules) == [str(k) for k in range(len(net))]

    def test_a_sequence_within_a_model(self):
        net = nn.Sequential(nn.Flatten(), flat())
        (fix,) = applied(net, (32, WIDTH))
        assert len(net[1]) == 3 * DEPTH + 1
        assert fix.site.split(", ") == [f"1.{2 * k}" for k in range(DEPTH)]

    def test_where_entries_are_called_by_number_they_keep_it(self):
        class Numbered(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = flat()

            def forward(self, x: Tensor) -> Tensor:
                for k in range(DEPTH):
                    x = self.net[2 * k + 1](self.net[2 * k](x))
                return self.net[-1](x)

        net = Numbered()
        (fix,) = applied(net, (32, WIDTH))
        assert fix.site.split(", ") == [f"net.{2 * k}" for k in range(DEPTH)]
        assert [type(m).__name__ for m in net.net] == ["Sequential", "Tanh"] * DEPTH + ["Linear"]
        net(torch.randn(32, WIDTH)).sum().backward()
        assert all(p.grad is not None for p in net.parameters())

    @pytest.mark.parametrize("training", [True, False])
    def test_mode_and_precision_are_those_of_the_layer(self, training):
        net = flat().double().train(training)
        task = Task(net, (torch.randn(32, WIDTH, dtype=torch.double), torch.arange(32) % 3), F.cross_entropy)
        patient = patient_of(task, task.train(2).session)
        InsertNormalisation().apply(patient, finding(patient.trace.of_kind(Kind.WEIGHT_LAYER)[0]))
        assert net[1].weight.dtype == net[1].running_mean.dtype == torch.double
        assert net[1].training is training

    def test_without_a_bias_there_is_none_to_drop(self):
        net = flat(bias=False)
        applied(net, (32, WIDTH))
        assert isinstance(net[1], nn.BatchNorm1d)


class TestOptimizer:
    def test_new_ones_join_and_dropped_ones_leave(self):
        net = flat()
        weights = [net[2 * k].weight for k in range(DEPTH)]
        biases = [net[2 * k].bias for k in range(DEPTH)]
        groups = [
            {"params": weights, "weight_decay": 0.1},
            {"params": [*biases, *net[-1].parameters()], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, 1e-3)
        F.cross_entropy(net(torch.randn(32, WIDTH)), torch.arange(32) % 3).backward()
        optimizer.step()
        applied(net, (32, WIDTH), optimizer=optimizer)
        norms = [p for k in range(DEPTH) for p in net[3 * k + 1].parameters()]
        held = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
        assert set(held[0]) == {id(p) for p in [*weights, *norms]}
        assert held[1] == [id(p) for p in net[-1].parameters()]
        assert sorted(id(p) for p in net.parameters()) == sorted([*held[0], *held[1]])
        assert len(optimizer.state_dict()["state"]) == DEPTH + 2
        optimizer.zero_grad()
        F.cross_entropy(net(torch.randn(32, WIDTH)), torch.arange(32) % 3).backward()
        optimizer.step()
        assert all(not torch.equal(norm, torch.zeros_like(norm)) for norm in norms)

    def test_put_back_bit_for_bit(self):
        net = flat()
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        task, patient = watched(net, (32, WIDTH), optimizer=optimizer)
        before, modules = copy.deepcopy(net.state_dict()), list(net.modules())
        held, kept = [id(p) for p in optimizer.param_groups[0]["params"]], task.snapshot()
        InsertNormalisation().apply(patient, finding(patient.trace.of_kind(Kind.WEIGHT_LAYER)[0]))
        kept.restore()
        assert list(net.modules()) == modules
        assert net.state_dict().keys() == before.keys()
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
        assert [id(p) for p in optimizer.param_groups[0]["params"]] == held


def vanishing(depth: int = 12) -> nn.Sequential:
    """A deep chain of sigmoids, whose gradients fade."""
    torch.manual_seed(0)
    layers = [m for _ in range(depth) for m in (nn.Linear(32, 32), nn.Sigmoid())]
    return nn.Sequential(*layers, nn.Linear(32, 3))


X = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(32, 3, generator=torch.Generator().manual_seed(1))).argmax(1)


class TestThroughTheEngine:
    def test_kept_where_it_helps(self):
        net = vanishing()
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        report = unstuck.fix(net, (X, Y), F.cross_entropy, optimizer, unsafe=True, steps=60)
        (fix,) = (fix for fix in report.fixes if fix.name == "insert-normalisation")
        assert fix.kept
        assert fix.proof.gone
        assert fix.proof.loss_after < 0.8 * fix.proof.loss_before
        assert sum(isinstance(m, nn.BatchNorm1d) for m in net) == 12
        assert {id(p) for p in net.parameters()} == {id(p) for p in optimizer.param_groups[0]["params"]}

    def test_not_without_unsafe(self):
        net = vanishing()
        report = unstuck.fix(net, (X, Y), F.cross_entropy, steps=60)
        assert report.fixes == ()
        assert any("insert-normalisation" in text for text in report.withheld)
        assert not any(isinstance(m, nn.BatchNorm1d) for m in net)


def loop(net: nn.Sequential, **watching: bool) -> tuple[unstuck.Run, list[float]]:
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    losses = []
    with unstuck.watch(every=1, **watching) as run:
        for _ in range(150):
            loss = F.cross_entropy(net(X), Y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert run.session.trace.facts.internal_error is None
    return run, losses


class TestInFlight:
    def test_the_training_begins_again_with_norms(self):
        net = vanishing()
        start = net[0].weight.detach().clone()
        run, losses = loop(net, unsafe_fixes=True)
        (fix,) = (fix for fix in run.fixes if fix.name == "insert-normalisation")
        assert fix.step > 0
        assert sum(isinstance(m, nn.BatchNorm1d) for m in net) == 12
        assert losses[-1] < 0.5 * loop(vanishing())[1][-1]
        assert not torch.equal(net[0].weight, start)
        assert "N006" not in run.report().codes()

    def test_gradients_may_be_accumulated(self):
        net = vanishing()
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        with unstuck.watch(every=1, unsafe_fixes=True) as run:
            for _ in range(60):
                optimizer.zero_grad()
                for half in (slice(32), slice(32, 64)):
                    (F.cross_entropy(net(X[half]), Y[half]) / 2).backward()
                optimizer.step()
        assert "insert-normalisation" in {fix.name for fix in run.fixes}

    def test_healthy_and_shallow_ones_are_left_alone(self):
        for depth in (1, 3):
            net = vanishing(depth)
            run, losses = loop(net, fix=True)
            assert run.fixes == ()
            assert losses == loop(vanishing(depth))[1]
