"""Learning rates scaled and gradients clipped while an optimizer steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import Optimizer

from unstuck.fixes.state import Snapshot
from unstuck.fixes.stepping import GradientBound, RateScale, factor_of

STEPS = 12
FACTOR = 0.2


class Recording(torch.optim.SGD):
    """SGD that writes down the rate it steps with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rates: list[list[float]] = []

    def step(self, closure: Any = None) -> Any:
        self.rates.append([float(group["lr"]) for group in self.param_groups])
        return super().step(closure)


def parameter(*values: float) -> nn.Parameter:
    p = nn.Parameter(torch.tensor(values))
    p.grad = torch.ones_like(p)
    return p


def plateau(optimizer: Optimizer) -> Any:
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)


SCHEDULES: dict[str, Callable[[Optimizer], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=STEPS + 1),
    "ReduceLROnPlateau": plateau,
    "warm-up": lambda o: lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=5),
    "warm-up, then decay": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.8)], milestones=[4]
    ),
}


def rates(make: Callable[[Optimizer], Any], *, scaled_from: int | None) -> tuple[list[float], list[float]]:
    """Rates a run steps with, and those a look at the group between steps shows."""
    optimizer = Recording([parameter(1.0)], lr=0.5)
    schedule, shown = make(optimizer), []
    for step in range(STEPS):
        if step == scaled_from:
            RateScale(optimizer, {0: FACTOR})
        optimizer.step()
        shown.append(float(optimizer.param_groups[0]["lr"]))
        schedule.step(*([1.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else []))
    return [rate for (rate,) in optimizer.rates], shown


class TestRateScale:
    @pytest.mark.parametrize("name", SCHEDULES)
    @pytest.mark.parametrize("scaled_from", [0, 5])
    def test_it_survives_schedulers_and_they_do_not_notice(self, name, scaled_from):
        plain, shown = rates(SCHEDULES[name], scaled_from=None)
        scaled, shown_too = rates(SCHEDULES[name], scaled_from=scaled_from)
        assert len(set(plain)) > 1
        assert scaled[:scaled_from] == plain[:scaled_from]
        assert scaled[scaled_from:] == pytest.approx([FACTOR * rate for rate in plain[scaled_from:]])
        assert shown_too == shown

    def test_only_the_groups_named(self):
        optimizer = Recording([{"params": [parameter(1.0)], "lr": 1.0}, {"params": [parameter(1.0)]}], lr=0.1)
        RateScale(optimizer, {1: 0.5})
        optimizer.step()
        assert optimizer.rates == [[1.0, 0.05]]

    def test_a_second_one_multiplies(self):
        optimizer = Recording([parameter(1.0)], lr=1.0)
        RateScale(optimizer, {0: 0.5})
        RateScale(optimizer, {0: 0.1})
        optimizer.step()
        assert optimizer.rates == [[pytest.approx(0.05)]]
        assert factor_of(optimizer, 0) == pytest.approx(0.05)
        assert optimizer.param_groups[0]["lr"] == 1.0

    def test_a_step_that_raised_leaves_no_trace(self):
        class Broken(Recording):
            def step(self, closure: Any = None) -> Any:
                super().step()
                if len(self.rates) == 1:
                    raise RuntimeError("the first one fails")

        optimizer = Broken([parameter(1.0)], lr=1.0)
        RateScale(optimizer, {0: FACTOR})
        with pytest.raises(RuntimeError):
            optimizer.step()
        optimizer.step()
        assert optimizer.rates == [[FACTOR], [FACTOR]]
        assert optimizer.param_groups[0]["lr"] == 1.0

    def test_a_rate_set_within_the_step_stays(self):
        class Setting(Recording):
            def step(self, closure: Any = None) -> Any:
                super().step()
                self.param_groups[0]["lr"] = 7.0

        optimizer = Setting([parameter(1.0)], lr=1.0)
        RateScale(optimizer, {0: FACTOR})
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] == 7.0

    def test_a_rate_in_a_tensor(self):
        p = parameter(1.0)
        own = torch.tensor(0.5)
        optimizer = torch.optim.SGD([p], lr=own)
        RateScale(optimizer, {0: FACTOR})
        optimizer.step()
        assert p.item() == pytest.approx(1 - 0.5 * FACTOR)
        assert optimizer.param_groups[0]["lr"] is own
        assert own.item() == 0.5

    def test_a_saved_state_holds_the_own_rate(self):
        optimizer = Recording([parameter(1.0)], lr=0.5)
        RateScale(optimizer, {0: FACTOR})
        optimizer.step()
        assert optimizer.state_dict()["param_groups"][0]["lr"] == 0.5

    def test_a_snapshot_puts_it_back(self):
        optimizer = Recording([parameter(1.0)], lr=1.0)
        RateScale(optimizer, {0: 0.5})
        before = Snapshot([], [optimizer])
        RateScale(optimizer, {0: 0.5})
        GradientBound(optimizer, 1.0)
        before.restore()
        optimizer.step()
        assert optimizer.rates == [[0.5]]
        assert len(optimizer._optimizer_step_pre_hooks) == 1


def clipped(gradients: list[Tensor], bound: float) -> list[Tensor]:
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = gradient.clone()
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    GradientBound(optimizer, bound)
    optimizer.step()
    return [-p.detach() for p in parameters]


class TestGradientBound:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("bound", [0.1, 2.0, 1e4])
    def test_as_torch_clips(self, dtype, bound):
        g = torch.Generator().manual_seed(0)
        gradients = [torch.randn(7, 5, generator=g).to(dtype), torch.randn(11, generator=g).to(dtype)]
        parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient.clone()
        nn.utils.clip_grad_norm_(parameters, bound)
        tolerance = 1e-2 if dtype is torch.bfloat16 else 1e-5
        for mine, p in zip(clipped(gradients, bound), parameters, strict=True):
            torch.testing.assert_close(mine, p.grad, rtol=tolerance, atol=1e-7)

    def test_below_the_bound_nothing_changes(self):
        gradients = [torch.tensor([3.0, 4.0])]
        assert torch.equal(clipped(gradients, 5.0)[0], gradients[0])

    def test_what_is_not_finite_is_left_alone(self):
        gradients = [torch.tensor([3.0, 4.0]), torch.tensor([float("inf")])]
        assert torch.equal(clipped(gradients, 1.0)[0], gradients[0])

    def test_a_scale_still_in_the_gradients_is_left_out(self):
        p = parameter(0.0)
        p.grad = torch.tensor([1000.0])
        optimizer = torch.optim.SGD([p], lr=1.0)
        optimizer.grad_scale = torch.tensor(100.0)
        GradientBound(optimizer, 2.0)(optimizer, (), {})
        assert p.grad.item() == pytest.approx(200.0)

    def test_another_one_replaces_it(self):
        p = parameter(0.0)
        optimizer = torch.optim.SGD([p], lr=1.0)
        GradientBound(optimizer, 0.1)
        GradientBound(optimizer, 0.5)
        optimizer.step()
        assert p.item() == pytest.approx(-0.5)

    def test_without_gradients(self):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(3))], lr=1.0)
        GradientBound(optimizer, 0.1)
        optimizer.step()
        assert not optimizer.param_groups[0]["params"][0].any()
