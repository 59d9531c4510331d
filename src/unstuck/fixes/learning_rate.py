"""suggest_lr: a learning rate from a short range test and a few trials, all of which are undone again.

The rate grows exponentially from step to step (Smith 2017, section 3.3, https://arxiv.org/abs/1506.01186) until the
loss diverges. Where the loss is lowest, the rate is already too high to stay at; how far below it one should stay
differs from task to task by a factor of ten, so that a few rates below it are tried, together with the one at which
updates have the size of those in working programs (https://cs231n.github.io/neural-networks-3/#ratio).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from unstuck.fixes.scale_learning_rate import TARGET
from unstuck.fixes.task import Batch, LossFunction, Task
from unstuck.trace.trace import SMALL_SCALE

STEPS = 100  # of the range test at most, and of each trial
LOWEST_RATE, HIGHEST_RATE = 1e-6, 10.0
DIVERGED = 3.0  # times what the loss has fallen by, or a tenth of the first loss, above the lowest (1)
BELOW_TURNING = (10.0, 5.0, 2.5, 1.5)  # times: the rates that are tried; on seven small tasks the best was 2 to 14


@dataclass(frozen=True)
class LearningRate:
    """A suggested learning rate, and the measurements behind it.

    `lr` is that of the optimizer's first group; groups with other rates are to be scaled by the same factor. `rates`,
    `losses` and `ratios` are the range test's curve: the first group's rate, the loss of the first batch before the
    update, and the median update-to-data ratio of the weight matrices (NaN without any, or after the divergence).
    `steepest` is the rate at which that loss falls fastest, `turning` that at which it is lowest, `by_ratio` that at
    which the ratio is 0.005 (None where it never is). `trials` are the mean losses at the end of short trials, by rate.
    """

    lr: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    ratios: tuple[float, ...]
    steepest: float
    turning: float
    by_ratio: float | None
    trials: dict[float, float] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.lr

    def __str__(self) -> str:
        by_ratio = "" if self.by_ratio is None else f"; updates are {TARGET:g} of the weights at {self.by_ratio:.2g}"
        tried = ", ".join(f"{rate:.2g}: {loss:.4g}" for rate, loss in sorted(self.trials.items()))
        return (
            f"learning rate {self.lr:.2g}\n"
            f"range test, {len(self.rates)} steps from {self.rates[0]:.2g} to {self.rates[-1]:.2g}: the loss falls "
            f"fastest at {self.steepest:.2g} and turns at {self.turning:.2g}{by_ratio}\n"
            f"loss after {STEPS} steps at {tried}"
        )


def suggest_lr(
    model: nn.Module, data: Batch | Iterable[Batch], loss_fn: LossFunction, optimizer: Optimizer
) -> LearningRate:
    """Suggest a learning rate for an optimizer, by a range test and up to five trials of 100 steps, all undone again.

        optimizer = torch.optim.AdamW(model.parameters())
        found = unstuck.suggest_lr(model, loader, F.cross_entropy, optimizer)
        print(found)
        optimizer.param_groups[0]["lr"] = found.lr

    `data` is one pair (inputs, targets) or an iterable of such pairs, of which up to 100 are taken; the loss is
    `loss_fn(model(inputs), targets)`, a scalar tensor. Parameters, buffers, gradients, the optimizer's state and rates
    and the random number generators are put back bit for bit, also when the model raises. Raises ValueError for data
    that are not pairs, for an optimizer whose first group has no positive rate, and when the loss is not finite at the
    rate the test begins with.
    """
    task = Task(model, data, loss_fn, optimizer, limit=STEPS)
    first = optimizer.param_groups[0].get("lr")
    if first is None or not float(first) > 0:
        raise ValueError(f"the first parameter group needs a positive learning rate to go by, has {first}")
    before = task.snapshot()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            rates, losses, ratios = _range_test(task, optimizer)
            steepest, turning = _landmarks(rates, losses)
            by_ratio = next((rate for rate, ratio in zip(rates, ratios, strict=True) if ratio >= TARGET), None)
            trials = {}
            for rate in {*(turning / times for times in BELOW_TURNING), *([] if by_ratio is None else [by_ratio])}:
                before.restore()
                trials[rate] = _trial(task, optimizer, rate)
    finally:
        before.restore()
    best = min(trials, key=lambda rate: (trials[rate], rate))
    if not math.isfinite(trials[best]):
        raise ValueError("the loss is not finite at any learning rate that was tried")
    return LearningRate(best, tuple(rates), tuple(losses), tuple(ratios), steepest, turning, by_ratio, trials)


def _set_rate(optimizer: Optimizer, own: Sequence[float | Tensor], rate: float) -> None:
    """Set the first group's rate; scale those of the others, `own` at first, by the same factor."""
    for group, lr in zip(optimizer.param_groups, own, strict=True):
        group["lr"] = lr * (rate / float(own[0]))


def _range_test(task: Task, optimizer: Optimizer) -> tuple[list[float], list[float], list[float]]:
    """Train while the rate grows, until the loss diverges; return rates, losses and ratios, one each a step."""
    own = [group["lr"] for group in optimizer.param_groups]
    weights = _matrices(task.modules, optimizer)
    rates: list[float] = []
    losses: list[float] = []
    ratios: list[float] = []
    for step in range(STEPS):
        rates.append(LOWEST_RATE * (HIGHEST_RATE / LOWEST_RATE) ** (step / (STEPS - 1)))
        losses.append(float(task.loss(task.batches[0]).detach()))
        if not math.isfinite(losses[0]):
            raise ValueError(f"the loss is {losses[0]} before any update")
        if _diverged(losses):
            ratios.append(math.nan)
            break
        _set_rate(optimizer, own, rates[-1])
        kept = [weight.detach().clone() for weight in weights]
        _update(task, optimizer, step)
        ratios.append(_median_ratio(weights, kept))
    return rates, losses, ratios


def _update(task: Task, optimizer: Optimizer, step: int) -> float:
    """Make one update on the batch of a step; return the loss before it."""
    optimizer.zero_grad()
    loss = task.loss(task.batches[step % len(task.batches)])
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def _trial(task: Task, optimizer: Optimizer, rate: float) -> float:
    """Return the mean loss of the last fifth of a training at one rate; infinite when it breaks."""
    _set_rate(optimizer, [group["lr"] for group in optimizer.param_groups], rate)
    losses = []
    for step in range(STEPS):
        losses.append(_update(task, optimizer, step))
        if not math.isfinite(losses[-1]):
            return math.inf
    return sum(losses[-(STEPS // 5) :]) / (STEPS // 5)


def _landmarks(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """Return the rates at which the loss falls fastest and at which it is lowest."""
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    turning = int(np.argmin(finite))
    falls = [after - before for before, after in pairwise(finite[: turning + 1])]
    return rates[int(np.argmin(falls)) if falls else 0], rates[turning]


def _diverged(losses: Sequence[float]) -> bool:
    lowest = min(losses)
    fallen = max(losses[0] - lowest, 0.1 * abs(losses[0]))
    return not losses[-1] - lowest <= DIVERGED * fallen


def _matrices(modules: Sequence[nn.Module], optimizer: Optimizer) -> list[Tensor]:
    """Return the weight matrices and kernels that an optimizer updates; tables of embeddings are none."""
    tables = {
        id(module.weight)
        for root in modules
        for module in root.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [p for p in parameters if p.dim() >= 2 and p.requires_grad and id(p) not in tables]


def _median_ratio(weights: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """Return the median of rms(update) / rms(value); small weights count as a third of 1 / √fan_in."""
    ratios = []
    for weight, kept in zip(weights, before, strict=True):
        size = max(_rms(kept), SMALL_SCALE / math.sqrt(weight[0].numel()))
        ratios.append(_rms(weight.detach() - kept) / size)
    return float(np.median(ratios)) if ratios else math.nan


def _rms(tensor: Tensor) -> float:
    return float(tensor.double().pow(2).mean().sqrt())
