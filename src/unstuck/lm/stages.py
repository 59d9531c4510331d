"""The lecture's five stages of one small network, each as published: which numbers it starts from.

Karpathy 2022, Building makemore part 3 (https://github.com/karpathy/nn-zero-to-hero): three symbols of context,
embeddings of 10, one tanh layer of 200 units; batches of 32, learning rate 0.1 and from the half on 0.01. Every stage
keeps what the one before it mended. Runs of one seed share their base draws and their batches at every stage, so that
what differs between two stages of a seed is the stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unstuck.lm.errors import LmError

CONTEXT, EMBEDDING, HIDDEN = 3, 10, 200
FAN_IN = CONTEXT * EMBEDDING
BATCH = 32
STEPS = 200_000
RATE, LATE_RATE = 0.1, 0.01  # before and from the half of the steps on
MOMENTUM = 0.001  # weight of a new batch in the running statistics
BLOCK = 1_000  # steps whose batches are drawn together
SATURATED = 0.99  # |tanh| above this, as the lecture paints its hidden layer

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Stage:
    """What the N(0, 1) draws of a stage are multiplied by; with `norm` the hidden bias gives way to BatchNorm.

    `train` and `val` are the losses that the lecture's log gives for its one run, in nats, with the digits it gives.
    """

    name: str
    title: str
    hidden_weight: float
    hidden_bias: float
    output_weight: float
    output_bias: float
    norm: bool
    train: str
    val: str


_KAIMING = 5 / 3 / math.sqrt(FAN_IN)

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("original", "all N(0, 1)", 1.0, 1.0, 1.0, 1.0, False, "2.1245", "2.1682"),
        Stage("small-output", "+ output weights × 0.01, bias 0", 1.0, 1.0, 0.01, 0.0, False, "2.07", "2.13"),
        Stage("small-hidden", "+ hidden weights × 0.2, bias × 0.01", 0.2, 0.01, 0.01, 0.0, False, "2.0356", "2.1027"),
        Stage("kaiming", "hidden weights × (5/3)/√30 instead", _KAIMING, 0.01, 0.01, 0.0, False, "2.0377", "2.1070"),
        Stage("batchnorm", "+ BatchNorm", _KAIMING, 0.0, 0.01, 0.0, True, "2.0668", "2.1048"),
    )
}

LECTURE_WORDS = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
"""SHA-256 of the lecture's 32,033 names, one a line, no newline at the end (https://github.com/karpathy/makemore)."""


@dataclass
class Network:
    """One run's numbers, float32: V symbols, E = 10, F = 30, H = 200.

    `embedding` (V, E), `hidden_weight` (F, H), `hidden_bias` (H,), `output_weight` (H, V), `output_bias` (V,); where
    `norm`, also `gain`, `shift`, `running_mean`, `running_std`, each (H,), and `hidden_bias` stays 0.
    """

    norm: bool
    embedding: FloatArray
    hidden_weight: FloatArray
    hidden_bias: FloatArray
    output_weight: FloatArray
    output_bias: FloatArray
    gain: FloatArray
    shift: FloatArray
    running_mean: FloatArray
    running_std: FloatArray

    def arrays(self) -> Iterator[tuple[str, FloatArray]]:
        """Yield each array with its name."""
        for name, value in vars(self).items():
            if name != "norm":
                yield name, value


def start(stage: Stage, seed: int, symbols: int) -> Network:
    """A network at step 0; the draws depend on the seed and the number of symbols alone."""
    draw = np.random.default_rng([seed, 0])

    def normal(*shape: int) -> FloatArray:
        return draw.standard_normal(shape, dtype=np.float32)

    embedding = normal(symbols, EMBEDDING)
    hidden, hidden_bias = normal(FAN_IN, HIDDEN), normal(HIDDEN)
    output, output_bias = normal(HIDDEN, symbols), normal(symbols)
    zeros, ones = np.zeros(HIDDEN, np.float32), np.ones(HIDDEN, np.float32)
    return Network(
        stage.norm,
        embedding,
        hidden * np.float32(stage.hidden_weight),
        hidden_bias * np.float32(stage.hidden_bias),
        output * np.float32(stage.output_weight),
        output_bias * np.float32(stage.output_bias),
        ones,
        zeros,
        zeros.copy(),
        ones.copy(),
    )


def batches(seed: int, block: int, examples: int) -> IntArray:
    """Which examples the batches of a block of steps hold, drawn with replacement: (BLOCK, BATCH).

    They depend on nothing but the arguments: not on the stage, on how runs are shared out, or on interruptions.
    """
    return np.random.default_rng([seed, 1 + block]).integers(examples, size=(BLOCK, BATCH), dtype=np.int32)


def rates(first: int, stop: int, steps: int) -> FloatArray:
    """Learning rates of the steps from `first` up to `stop` in a run of `steps`."""
    return np.where(np.arange(first, stop) < steps // 2, RATE, LATE_RATE).astype(np.float32)


def stages_of(text: str) -> tuple[Stage, ...]:
    """The stages of a comma-separated list of names or numbers from 1, in the lecture's order; raises LmError."""
    names = list(STAGES)
    chosen = set()
    for part in (part.strip() for part in text.split(",")):
        name = names[int(part) - 1] if part.isdecimal() and 1 <= int(part) <= len(names) else part
        if name not in STAGES:
            raise LmError(f"unknown stage {part!r}: give some of {', '.join(names)}, or their numbers 1-{len(names)}")
        chosen.add(name)
    return tuple(STAGES[name] for name in names if name in chosen)


def is_lectures(words: Sequence[str]) -> bool:
    """Whether these words are the lecture's list, however its lines end."""
    from hashlib import sha256

    return sha256("\n".join(words).encode()).hexdigest() == LECTURE_WORDS


def split_by(words: Sequence[str]) -> str:
    """How the ladder splits these words: the lecture's list by line, as the lecture does, others by distinct word."""
    return "lines" if is_lectures(words) else "words"
