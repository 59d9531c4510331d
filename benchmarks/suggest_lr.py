"""`unstuck.suggest_lr` beside a grid of rates on small tasks: loss after 200 steps, as a markdown table.

    python -m benchmarks.suggest_lr [--seed 0] [--steps 200] [TASK ...]

Every rate, the suggested one too, trains the same initial weights on the same fresh batches; the loss is the mean of
the last 20 steps. The grid has 1, 2 and 5 times each power of ten from 1e-4 to 5. Noise in the targets keeps every
task's best loss above zero, so that a difference in per cent means something.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import Optimizer

import unstuck

GRID = [digit * 10.0**exponent for exponent in range(-4, 1) for digit in (1, 2, 5)]
BATCH = 64
SIDE = 10
WORDS, LENGTH = 16, 17


def waves(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A function of eight inputs, with noise of standard deviation 0.3."""
    x = torch.randn(n, 8, generator=g)
    return x, torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3] + 0.3 * torch.randn(n, 1, generator=g)


def rings(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Five classes by the distance from the origin, with noise."""
    x = torch.randn(n, 10, generator=g)
    return x, torch.bucketize(x.norm(dim=1) + 0.3 * torch.randn(n, generator=g), torch.tensor([2.4, 2.9, 3.3, 3.8]))


def stripes(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of stripes in four directions; 15 % of the labels are drawn at random."""
    kind = torch.randint(0, 4, (n,), generator=g)
    angle, t = (kind * math.pi / 4)[:, None, None], torch.arange(float(SIDE))
    phase = 2 * math.pi * torch.rand(n, 1, 1, generator=g)
    image = torch.sin(1.3 * (t[:, None] * angle.cos() + t * angle.sin()) + phase)
    other = torch.rand(n, generator=g) < 0.15
    label = torch.where(other, torch.randint(0, 4, (n,), generator=g), kind)
    return (image + 0.7 * torch.randn(n, SIDE, SIDE, generator=g)).unsqueeze(1), label


def sums(n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Words that are the sum of the two before them, one in ten drawn at random; predict the next."""
    x = torch.randint(0, WORDS, (n, LENGTH), generator=g)
    drawn = torch.rand(n, LENGTH, generator=g) < 0.1
    for i in range(2, LENGTH):
        x[:, i] = torch.where(drawn[:, i], x[:, i], (x[:, i - 1] + x[:, i - 2]) % WORDS)
    return x[:, :-1], x[:, 1:]


class LanguageModel(nn.Module):
    """Two pre-norm transformer blocks of width 32."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 32), nn.Parameter(0.1 * torch.randn(LENGTH - 1, 32))
        block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, WORDS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next word at each place."""
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH - 1)
        logits: Tensor = self.head(self.blocks(self.words(x) + self.places, mask=mask, is_causal=True))
        return logits


def mlp(inputs: int, outputs: int) -> nn.Module:
    """Two hidden layers of 64 ReLUs."""
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs)
    )  # fmt: skip


def convolution(norm: Callable[[int], nn.Module]) -> nn.Module:
    """Two convolutions and a linear layer."""
    body = [nn.Conv2d(1, 16, 3), norm(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), norm(32), nn.ReLU()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(288, 4))


def word_loss(logits: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of all places."""
    return F.cross_entropy(logits.flatten(0, 1), words.flatten())


@dataclass(frozen=True)
class Small:
    """A task: how to make the model, its batches, its loss and its optimizer."""

    model: Callable[[], nn.Module]
    data: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[nn.Module, float], Optimizer]


def sgd(model: nn.Module, lr: float) -> Optimizer:
    """SGD with momentum."""
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def adam(model: nn.Module, lr: float) -> Optimizer:
    """Adam."""
    return torch.optim.Adam(model.parameters(), lr=lr)


TASKS = {
    "mlp-adam": Small(lambda: mlp(8, 1), waves, F.mse_loss, adam),
    "mlp-sgd": Small(lambda: mlp(8, 1), waves, F.mse_loss, lambda m, lr: torch.optim.SGD(m.parameters(), lr=lr)),
    "mlp-momentum": Small(lambda: mlp(10, 5), rings, F.cross_entropy, sgd),
    "conv-adam": Small(lambda: convolution(lambda _: nn.Identity()), stripes, F.cross_entropy, adam),
    "conv-norm-momentum": Small(lambda: convolution(nn.BatchNorm2d), stripes, F.cross_entropy, sgd),
    "transformer-adamw": Small(
        LanguageModel, sums, word_loss, lambda m, lr: torch.optim.AdamW(m.parameters(), lr=lr, weight_decay=0.01)
    ),
    "transformer-momentum": Small(LanguageModel, sums, word_loss, sgd),
}


def final(task: Small, start: nn.Module, batches: list[tuple[Tensor, Tensor]], lr: float) -> float:
    """Mean loss of the last tenth of a training; NaN or infinite where it breaks."""
    model = copy.deepcopy(start)
    optimizer, losses = task.optimizer(model, lr), []
    for x, y in batches:
        optimizer.zero_grad()
        loss = task.loss(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("tasks", nargs="*", metavar="TASK", choices=[[], *TASKS], help=", ".join(TASKS))
    chosen = arguments.parse_args()
    print("| task | suggested | lowest in the range test | loss | best of the grid | its loss | difference |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in chosen.tasks or TASKS:
        task = TASKS[name]
        torch.manual_seed(chosen.seed)
        start, g = task.model(), torch.Generator().manual_seed(chosen.seed + 1)
        batches = [task.data(BATCH, g) for _ in range(chosen.steps)]
        model = copy.deepcopy(start)
        found = unstuck.suggest_lr(model, batches, task.loss, task.optimizer(model, 1e-3))
        mine = final(task, start, batches, found.lr)
        grid = {lr: final(task, start, batches, lr) for lr in GRID}
        best = min(grid, key=lambda lr: grid[lr] if math.isfinite(grid[lr]) else math.inf)
        print(
            f"| {name} | {found.lr:.2g} | {found.turning:.2g} | {mine:.4f} | {best:g} | {grid[best]:.4f} | "
            f"{mine / grid[best] - 1:+.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
