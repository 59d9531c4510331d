"""Dead units drawn afresh."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unstuck

NAME = "revive-dead-units"
DEAD = 16


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))


def convolution() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 16, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16 * 16, 1)
    )


class Flattened(nn.Module):
    """The units at fault are a convolution's, and a linear layer takes them flattened."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 32, 3), nn.Linear(32 * 36, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(x)).flatten(1))


def vectors(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 8, generator=g)
    return x, torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]


def images(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 1, 8, 8, generator=g)
    return x, x.square().mean((1, 2, 3))[:, None]


Data = Callable[[torch.Generator], tuple[Tensor, Tensor]]


def train(
    net: nn.Module,
    data: Data,
    optimizer: torch.optim.Optimizer,
    steps: int,
    before: Callable[[int], None] = lambda _: None,
    penalty: float = 0.0,
) -> float:
    g, losses = torch.Generator().manual_seed(1), []
    for step in range(steps):
        before(step)
        x, y = data(g)
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        (loss + penalty * net[:2](x).sum(1).mean() if penalty else loss).backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-20:]) / 20


def kill(layer: nn.Module, at: int = 1) -> Callable[[int], None]:
    """One accident: the biases of half the units are thrown far below."""

    def before(step: int) -> None:
        if step == at:
            layer.bias.data[:DEAD] = -100.0

    return before


def dead(net: nn.Sequential, data: Data) -> int:
    out = net[:2](data(torch.Generator().manual_seed(9))[0]).transpose(0, 1).flatten(1)
    return int((out == 0).all(1).sum())


class TestLeavesAlone:
    @pytest.mark.parametrize(("make", "data"), [(mlp, vectors), (convolution, images)])
    def test_a_working_program(self, make, data):
        net = make()
        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            train(net, data, torch.optim.Adam(net.parameters(), lr=2e-3), 60)
        assert run.fixes == ()

    def test_what_goes_on_dying_of_its_bias(self):
        net = mlp()
        weights = [p for p in net.parameters() if p.dim() > 1]
        biases = [p for p in net.parameters() if p.dim() == 1]
        optimizer = torch.optim.Adam([{"params": weights}, {"params": biases, "lr": 1.0}], lr=2e-3)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            train(net, vectors, optimizer, 60)
        assert {finding.code for finding in run.report().findings} >= {"A002"}
        assert run.fixes == ()

    def test_what_a_penalty_keeps_dead(self):
        net = mlp()
        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            train(net, vectors, torch.optim.Adam(net.parameters(), lr=3e-3), 60, kill(net[0]), penalty=0.1)
        assert {finding.code for finding in run.report().findings} >= {"A002"}
        assert run.fixes == ()

    def test_what_never_could_respond(self):
        net = mlp()
        net[0].bias.data.fill_(-100.0)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            train(net, vectors, torch.optim.Adam(net.parameters(), lr=2e-3), 60)
        assert {finding.code for finding in run.report().findings} >= {"A003"}
        assert run.fixes == ()

    def test_a_layer_whose_output_is_added_to_another(self):
        class Residual(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.stem, self.inner, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 1)

            def forward(self, x: Tensor) -> Tensor:
                h = self.stem(x)
                return self.head(h + F.relu(self.inner(h)))

        net = Residual()
        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            train(net, vectors, torch.optim.Adam(net.parameters(), lr=2e-3), 60, kill(net.inner))
        assert run.fixes == ()
        assert any(NAME in text for text in run.report().withheld)

    def test_before_training_what_dies_in_it(self):
        """In a trial units die; the network that is mended is back at its start, where they live."""
        net = mlp()
        g = torch.Generator().manual_seed(1)
        batches = [vectors(g) for _ in range(60)]
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        before = [p.detach().clone() for p in net.parameters()]
        report = unstuck.fix(net, batches, F.mse_loss, optimizer, unsafe=True, steps=60)
        assert NAME not in {fix.name for fix in report.fixes}
        assert len(before) == len(list(net.parameters()))


class TestRevives:
    @pytest.mark.parametrize(("make", "data"), [(mlp, vectors), (convolution, images)])
    def test_units_live_and_the_loss_is_lower_for_it(self, make, data):
        left = make()
        worse = train(left, data, torch.optim.Adam(left.parameters(), lr=2e-3), 300, kill(left[0]))
        assert dead(left, data) >= DEAD
        net = make()
        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            better = train(net, data, torch.optim.Adam(net.parameters(), lr=2e-3), 300, kill(net[0]))
        assert [fix.name for fix in run.fixes] == [NAME]
        assert run.fixes[0].before >= DEAD
        assert dead(net, data) <= 3
        assert better < worse
        assert [finding.code for finding in run.report().findings] == []

    def mended(self, net: nn.Module, layer: nn.Module, data: Data, optimizer: torch.optim.Optimizer) -> dict:
        """What the repair itself has changed: everything just before and just after it."""
        seen: dict[str, object] = {}

        def before(step: int) -> None:
            kill(layer)(step)
            if run.fixes and "after" not in seen:
                seen["after"] = {name: p.detach().clone() for name, p in net.named_parameters()}
                seen["moments"] = {
                    name: optimizer.state[p]["exp_avg"].clone() for name, p in net.named_parameters()
                }  # fmt: skip

        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            train(net, data, optimizer, 120, before)
        assert "after" in seen
        seen["fix"] = run.fixes[0]
        return seen

    def test_incoming_weights_are_drawn_and_outgoing_ones_zero(self):
        net = mlp()
        seen = self.mended(net, net[0], vectors, torch.optim.Adam(net.parameters(), lr=2e-3))
        after, moments = seen["after"], seen["moments"]
        assert not after["0.bias"][:DEAD].any()
        assert not after["2.weight"][:, :DEAD].any()
        assert after["0.weight"][:DEAD].std().item() == pytest.approx((2 / 8) ** 0.5, rel=0.25)
        for name, part in (("0.weight", moments["0.weight"][:DEAD]), ("2.weight", moments["2.weight"][:, :DEAD])):
            assert not part.any(), name
        assert moments["0.weight"][DEAD:].any()
        assert after["2.weight"][:, DEAD:].all()

    def test_a_convolution_flattened_into_a_linear_layer(self):
        net = Flattened()
        seen = self.mended(net, net.conv, images, torch.optim.Adam(net.parameters(), lr=2e-3))
        after = seen["after"]
        assert not after["conv.bias"][:DEAD].any()
        assert after["conv.weight"][:DEAD].std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.25)
        assert not after["head.weight"].view(32, 36)[:DEAD].any()
        assert after["head.weight"].view(32, 36)[DEAD:].all()

    def test_the_function_is_what_it_was(self):
        net = mlp()
        x, _ = vectors(torch.Generator().manual_seed(5))
        outputs: list[Tensor] = []

        def before(step: int) -> None:
            kill(net[0])(step)
            if step == 2:
                outputs.append(net(x).detach())

        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            train(net, vectors, torch.optim.SGD(net.parameters(), lr=0.0), 60, before)
        assert [fix.name for fix in run.fixes] == [NAME]
        torch.testing.assert_close(net(x).detach(), outputs[0])

    def test_raw_tensors(self):
        g = torch.Generator().manual_seed(0)
        w1, w2 = (
            (torch.randn(8, 32, generator=g) / 2).requires_grad_(),
            (torch.randn(32, 1, generator=g) / 6).requires_grad_(),
        )
        b1 = torch.zeros(32, requires_grad=True)
        data = torch.Generator().manual_seed(1)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["A"]) as run:
            for step in range(60):
                if step == 1:
                    b1.data[:DEAD] = -100.0
                x, y = vectors(data)
                loss = F.mse_loss(F.relu(x @ w1 + b1) @ w2, y)
                for p in (w1, b1, w2):
                    p.grad = None
                loss.backward()
                for p in (w1, b1, w2):
                    p.data -= 0.01 * p.grad
        assert [fix.name for fix in run.fixes] == [NAME]
        assert float(b1.detach().min()) > -1
        assert w1.detach()[:, :DEAD].std().item() == pytest.approx(0.5, rel=0.25)
