"""A learning rate from a range test and trials; everything is put back."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import unstuck

Batch = tuple[Tensor, Tensor]


def batches(count: int) -> list[Batch]:
    g = torch.Generator().manual_seed(0)
    direction = torch.randn(8, 1, generator=g) / 8**0.5
    inputs = [torch.randn(64, 8, generator=g) for _ in range(count)]
    return [(x, torch.sin(x @ direction) + 0.3 * torch.randn(64, 1, generator=g)) for x in inputs]


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))


def final_loss(net: nn.Module, data: list[Batch], lr: float) -> float:
    """Mean loss of the last tenth of 100 plain steps of Adam."""
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=lr), []
    for x, y in data:
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


class TestRefuses:
    def test_data_that_are_no_pairs(self, net):
        with pytest.raises(ValueError, match="pair"):
            unstuck.suggest_lr(net, torch.randn(4, 8), F.mse_loss, torch.optim.Adam(net.parameters()))

    def test_a_rate_of_zero_says_nothing_about_the_groups(self, net):
        with pytest.raises(ValueError, match="positive learning rate"):
            unstuck.suggest_lr(net, batches(1), F.mse_loss, torch.optim.SGD(net.parameters(), lr=0.0))

    def test_a_loss_that_is_not_finite_at_first(self, net):
        net[0].weight.data.fill_(math.nan)
        with pytest.raises(ValueError, match="before any update"):
            unstuck.suggest_lr(net, batches(1), F.mse_loss, torch.optim.Adam(net.parameters()))


class TestPutsBack:
    def state(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        moments = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        rates = torch.tensor([group["lr"] for group in optimizer.param_groups])
        held = [*net.state_dict().values(), *moments, *gradients, rates, torch.get_rng_state()]
        return [tensor.clone() for tensor in held]

    def test_bit_for_bit(self, net):
        optimizer = torch.optim.AdamW(
            [{"params": net[0].parameters(), "lr": 0.1}, {"params": [*net[1].parameters(), *net[4].parameters()]}]
        )
        x, y = batches(1)[0]
        F.mse_loss(net(x), y).backward()
        optimizer.step()
        before = self.state(net, optimizer)
        unstuck.suggest_lr(net, batches(20), F.mse_loss, optimizer)
        after = self.state(net, optimizer)
        assert len(before) == len(after)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def test_random_numbers_of_a_loader_that_shuffles(self, net):
        loader = DataLoader(TensorDataset(*batches(1)[0]), batch_size=16, shuffle=True)
        before = torch.get_rng_state()
        unstuck.suggest_lr(net, loader, F.mse_loss, torch.optim.Adam(net.parameters()))
        assert torch.equal(torch.get_rng_state(), before)

    def test_also_when_the_model_raises(self, net):
        calls = 0

        def loss(output: Tensor, target: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 30:
                raise RuntimeError("the thirtieth call fails")
            return F.mse_loss(output, target)

        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        before = self.state(net, optimizer)
        with pytest.raises(RuntimeError, match="thirtieth"):
            unstuck.suggest_lr(net, batches(5), loss, optimizer)
        assert all(torch.equal(a, b) for a, b in zip(before, self.state(net, optimizer), strict=True))


class TestSuggests:
    def test_a_rate_that_trains_nearly_as_well_as_the_best_of_a_grid(self, net):
        data = batches(100)
        found = unstuck.suggest_lr(net, data, F.mse_loss, torch.optim.Adam(net.parameters()))
        start = {name: value.clone() for name, value in net.state_dict().items()}
        losses = {}
        for lr in (found.lr, 1e-4, 1e-3, 1e-2, 1e-1, 1.0):
            net.load_state_dict(start)
            torch.manual_seed(3)
            losses[lr] = final_loss(net, data, lr)
        assert losses[found.lr] < 1.1 * min(losses.values())
        assert losses[found.lr] < 0.8 * losses[1e-4]

    def test_the_curve_is_that_of_a_plain_range_test(self):
        torch.manual_seed(0)
        net = nn.Linear(8, 1)
        data = batches(7)
        found = unstuck.suggest_lr(net, data, F.mse_loss, torch.optim.SGD(net.parameters(), lr=0.5))
        for step, (rate, loss) in enumerate(zip(found.rates[:70], found.losses, strict=False)):
            assert rate == pytest.approx(1e-6 * 1e7 ** (step / 99))
            assert loss == pytest.approx(F.mse_loss(net(data[0][0]), data[0][1]).item(), rel=1e-4)
            x, y = data[step % 7]
            gradients = torch.autograd.grad(F.mse_loss(net(x), y), list(net.parameters()))
            update = float((rate * gradients[0]).square().mean().sqrt())
            size = max(net.weight.detach().square().mean().sqrt().item(), 1 / 3 / 8**0.5)
            assert found.ratios[step] == pytest.approx(update / size, rel=1e-3, abs=1e-7)  # float32
            with torch.no_grad():
                for p, gradient in zip(net.parameters(), gradients, strict=True):
                    p -= rate * gradient

    def test_it_lies_below_the_turning_point_and_is_the_best_that_was_tried(self, net):
        found = unstuck.suggest_lr(net, batches(100), F.mse_loss, torch.optim.SGD(net.parameters(), lr=0.1))
        assert found.trials[found.lr] == min(found.trials.values())
        assert found.rates[0] < found.lr < found.turning
        assert len(found.rates) == len(found.losses) == len(found.ratios) <= 100
        assert found.rates[found.losses.index(min(found.losses))] == found.turning

    def test_groups_keep_their_proportion(self):
        """A second group at a thousandth of the rate is as good as frozen; at ten thousand times it breaks."""
        rates = []
        for share in (1e-3, 1e4):
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
            groups = [{"params": net[0].parameters(), "lr": 1e-2}, {"params": net[2].parameters(), "lr": 1e-2 * share}]
            optimizer = torch.optim.SGD(groups, lr=1.0)
            rates.append(unstuck.suggest_lr(net, batches(50), F.mse_loss, optimizer).lr)
        assert rates[1] < rates[0] / 100

    def test_it_is_a_number_and_reads_well(self, net):
        found = unstuck.suggest_lr(net, batches(10), F.mse_loss, torch.optim.Adam(net.parameters()))
        assert float(found) == found.lr
        first = str(found).splitlines()[0]
        assert first == f"learning rate {found.lr:.2g}"
        assert f"turns at {found.turning:.2g}" in str(found)

    def test_an_iterator_is_read_no_further_than_it_needs(self, net):
        taken = []

        def stream():
            for batch in batches(150):
                taken.append(1)
                yield batch

        unstuck.suggest_lr(net, stream(), F.mse_loss, torch.optim.Adam(net.parameters()))
        assert len(taken) <= 101
