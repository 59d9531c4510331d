"""What `benchmarks.overhead` trains: three small networks and their loops, and one weight for what a tool costs at all.

Every activation is a module of its own and none works in place, so that tools that hook modules see all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAMES = Path(__file__).parents[1] / "src/unstuck/lm/data/names.txt"  # read as a file: the bare loop imports no unstuck
WORDS = 5_000


class Observer(Protocol):
    """What a tool wants called in the loop; tools that need no call leave both empty."""

    def after_backward(self, loss: Tensor) -> None:
        """Gradients are there, the parameters have not moved."""

    def after_step(self, loss: Tensor) -> None:
        """The optimizer has moved the parameters; gradients are still there."""


@dataclass
class Training:
    """A network, its optimizer, where its batches come from, and its loss."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    draw: Callable[[], tuple[Tensor, Tensor]]
    loss_fn: Callable[[Tensor, Tensor], Tensor]

    def step(self, observer: Observer) -> Tensor:
        """Make one step of training and return its loss."""
        inputs, targets = self.draw()
        loss = self.loss_fn(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        observer.after_backward(loss)
        self.optimizer.step()
        observer.after_step(loss)
        return loss


@dataclass(frozen=True)
class Workload:
    """How to build a training, and how long it is watched.

    `warm_up` steps precede the timing (unstuck samples steps 0-9 under any schedule); `steps` counts both.
    """

    name: str
    what: str
    build: Callable[[], Training]
    warm_up: int
    steps: int


def weight() -> Training:
    """One weight and one example: what is left is the tool's own."""
    model = nn.Linear(1, 1, bias=False)
    x, y = torch.ones(2, 1), torch.ones(2, 1)
    return Training(model, torch.optim.SGD(model.parameters(), lr=1e-3), lambda: (x, y), F.mse_loss)


def names() -> Training:
    """The lecture's deep MLP: https://github.com/karpathy/nn-zero-to-hero, makemore part 3."""
    symbols, context, width, batch = 27, 3, 100, 32
    hidden: list[nn.Module] = []
    for fan_in in (10 * context, *[width] * 4):
        hidden += [nn.Linear(fan_in, width, bias=False), nn.BatchNorm1d(width), nn.Tanh()]
    model = nn.Sequential(nn.Embedding(symbols, 10), nn.Flatten(), *hidden, nn.Linear(width, symbols))
    contexts, following = _name_examples(context)

    def draw() -> tuple[Tensor, Tensor]:
        drawn = torch.randint(len(contexts), (batch,))
        return contexts[drawn], following[drawn]

    return Training(model, torch.optim.SGD(model.parameters(), lr=0.1), draw, F.cross_entropy)


def _name_examples(context: int) -> tuple[Tensor, Tensor]:
    """Contexts (N, context) and the symbols that follow them (N,); 0 is the boundary of a word."""
    contexts, following = [], []
    for word in NAMES.read_text(encoding="utf-8").split()[:WORDS]:
        seen = [0] * context
        for symbol in [*(ord(c) - ord("a") + 1 for c in word), 0]:
            contexts.append(seen)
            following.append(symbol)
            seen = [*seen[1:], symbol]
    return torch.tensor(contexts), torch.tensor(following)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a way around them: https://arxiv.org/abs/1512.03385, figure 5 (left)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1, self.relu1 = nn.BatchNorm2d(channels), nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(channels), nn.ReLU()
        same = channels_in == channels and stride == 1
        self.around = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, H, W) to (B, channels, H / stride, W / stride)."""
        inside = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(inside + self.around(x))


def resnet() -> Training:
    """Three stages of one residual block each, on noise: only the shapes matter here."""
    classes, batch = 10, 32
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        ResidualBlock(16, 16, 1),
        ResidualBlock(16, 32, 2),
        ResidualBlock(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )
    images, labels = torch.randn(8 * batch, 3, 32, 32), torch.randint(classes, (8 * batch,))

    def draw() -> tuple[Tensor, Tensor]:
        drawn = torch.randint(len(images), (batch,))
        return images[drawn], labels[drawn]

    return Training(model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), draw, F.cross_entropy)


class TransformerBlock(nn.Module):
    """Causal self-attention and an MLP, each behind its LayerNorm: https://arxiv.org/abs/2002.04745, figure 1 (b)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to the same shape."""
        b, t, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, -1)  # (B, T, 3, heads, width / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, width / heads)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(b, t, width))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A character-level language model of pre-LN blocks."""

    def __init__(self, symbols: int, context: int, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.symbol, self.place = nn.Embedding(symbols, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols)
        self.register_buffer("places", torch.arange(context), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Map symbol ids (B, T) to logits (B, T, symbols)."""
        return self.head(self.norm(self.blocks(self.symbol(ids) + self.place(self.places))))


def transformer() -> Training:
    """4.8 million weights, 1,024 symbols a step, drawn at random: only the shapes matter here."""
    symbols, context, batch = 65, 64, 16
    model = Transformer(symbols, context, width=256, heads=8, blocks=6)
    text = torch.randint(symbols, (100_000,))

    def draw() -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(text) - context - 1, (batch, 1))
        windows = text[starts + torch.arange(context + 1)]  # (B, T + 1)
        return windows[:, :-1], windows[:, 1:]

    def loss_fn(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return Training(model, torch.optim.AdamW(model.parameters(), lr=3e-4), draw, loss_fn)


ONE_WEIGHT = Workload("weight", "one weight", weight, warm_up=10, steps=50)
WORKLOADS = {
    w.name: w
    for w in (
        Workload(
            "names",
            "embedding(27, 10) of 3 symbols, 5 × (linear, batch norm, tanh) of width 100, linear(27); batch 32, SGD",
            names,
            warm_up=50,
            steps=3_000,
        ),
        Workload(
            "resnet",
            "3 stages of one residual block, 16-32-64 channels, batch norm; batch 32 of 3 × 32 × 32, SGD with momentum",
            resnet,
            warm_up=20,
            steps=300,
        ),
        Workload(
            "transformer",
            "6 pre-LN blocks, width 256, 8 heads, GELU MLP of 1,024; batch 16 of 64 symbols out of 65, AdamW",
            transformer,
            warm_up=10,
            steps=100,
        ),
    )
}
