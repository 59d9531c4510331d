"""How a model is trained: three named recipes, of which every value can be changed.

`lecture` is the loop of the lecture (https://github.com/karpathy/nn-zero-to-hero, makemore part 3): SGD at 0.1, at
0.01 from the half on, batches of 32, 200,000 steps, running statistics with momentum 0.001, a split by line. `fast`
reaches its validation loss in a small part of the time: AdamW (https://arxiv.org/abs/1711.05101) under a one-cycle
rate (https://arxiv.org/abs/1708.07120), larger batches, counted targets, a split by distinct word. `words` is for the
models that read whole words: 64 of them a batch, each symbol predicted from all that come before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from unstuck.lm.data import SPLITS
from unstuck.lm.errors import LARGEST_SEED, LmError, require_choice, require_positive, require_whole
from unstuck.lm.examples import TARGETS

OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
SCHEDULES = ("constant", "halfway-drop", "one-cycle")
MOMENTUM = 0.9  # of the optimizer called "momentum"
WARM_UP = 0.3  # share of a one-cycle's steps on which the rate rises
START_SHARE = 1 / 25  # of a one-cycle's highest rate


@dataclass(frozen=True)
class Recipe:
    """Everything about training except the model and the data; raises LmError for values that cannot be.

    `lr` is the schedule's highest rate; `norm_momentum` the weight of a new batch in BatchNorm's running statistics;
    `lower` and `min_count` say how the words are prepared (`data.prepare`).
    """

    optimizer: str
    lr: float
    schedule: str
    batch_size: int
    steps: int
    targets: str
    split: str
    weight_decay: float
    norm_momentum: float
    seed: int = 0
    lower: bool = field(default=False, metadata={"since": 2})
    min_count: int = field(default=1, metadata={"since": 2})

    def __post_init__(self) -> None:
        """Check every value."""
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_positive("lr", self.lr)
        require_choice("schedule", self.schedule, SCHEDULES)
        require_whole("batch size", self.batch_size, 1, 2**24)
        require_whole("steps", self.steps, 1, 2**48)
        require_choice("targets", self.targets, TARGETS)
        require_choice("split", self.split, SPLITS)
        require_positive("weight decay", self.weight_decay, zero=True)
        require_positive("norm momentum", self.norm_momentum)
        if self.norm_momentum > 1:
            raise LmError(f"norm momentum is {self.norm_momentum}: give a number above 0 and up to 1")
        require_whole("seed", self.seed, 0, LARGEST_SEED)
        require_whole("min count", self.min_count, 1, 2**48)


RECIPES = {
    "fast": Recipe(
        optimizer="adamw",
        lr=0.03,
        schedule="one-cycle",
        batch_size=512,
        steps=1_200,
        targets="counted",
        split="words",
        weight_decay=0.01,
        norm_momentum=0.1,
    ),
    "lecture": Recipe(
        optimizer="sgd",
        lr=0.1,
        schedule="halfway-drop",
        batch_size=32,
        steps=200_000,
        targets="drawn",
        split="lines",
        weight_decay=0.0,
        norm_momentum=0.001,
    ),
    "words": Recipe(
        optimizer="adamw",
        lr=0.005,
        schedule="one-cycle",
        batch_size=64,
        steps=3_000,
        targets="drawn",
        split="words",
        weight_decay=0.1,
        norm_momentum=0.1,
    ),
}


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of `step`, counted from 0; a function of the step alone, so a resumed run needs no scheduler state."""
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "halfway-drop":
        return recipe.lr if step < recipe.steps // 2 else recipe.lr / 10
    warm = WARM_UP * recipe.steps
    if step < warm:
        return recipe.lr * (START_SHARE + (1 - START_SHARE) * _rise(step / warm))
    return recipe.lr * (1 - _rise((step - warm) / (recipe.steps - warm)))


def _rise(share: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * share)) / 2


def build_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer. The weight decay is decoupled in `adamw` and added to the gradient in the others."""
    if recipe.optimizer in ("sgd", "momentum"):
        momentum = MOMENTUM if recipe.optimizer == "momentum" else 0.0
        return torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=momentum, weight_decay=recipe.weight_decay, fused=True
        )
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
