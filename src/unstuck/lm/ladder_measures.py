"""What the ladder measures of a network: losses in nats, saturated elements and dead units; in float64.

Few contexts are different (5,438 of the lecture's 182,625 examples), so that each is computed once and weighed by how
often each symbol follows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

import numpy as np
import numpy.typing as npt

from unstuck.lm.examples import Examples
from unstuck.lm.stages import HIDDEN, SATURATED, IntArray, Network

Float64 = npt.NDArray[np.float64]


CHUNK = 16_384  # contexts computed at a time


@dataclass(frozen=True)
class Grouped:
    """The different contexts (D, T) of some examples, and how often each symbol follows each.

    Context d is followed by the symbols `follower[first[d] : first[d + 1]]`, as often as `count` says in these places.
    """

    contexts: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    follower: npt.NDArray[np.int64]
    count: Float64

    @classmethod
    def of(cls, examples: Examples) -> Grouped:
        """Group examples; there must be one at least."""
        rows = np.column_stack([examples.contexts.numpy(), examples.targets.numpy()])
        pairs, count = np.unique(rows, axis=0, return_counts=True)
        opens = np.concatenate(([True], (pairs[1:, :-1] != pairs[:-1, :-1]).any(1)))
        first = np.append(np.flatnonzero(opens), len(pairs))
        return cls(pairs[opens, :-1], first, pairs[:, -1], count.astype(np.float64))

    @classmethod
    def batch(cls, contexts: IntArray, targets: IntArray) -> Grouped:
        """A batch as it is, its repeated contexts too: BatchNorm's statistics count each."""
        places = np.arange(len(targets) + 1)
        return cls(contexts.astype(np.int64), places, targets.astype(np.int64), np.ones(len(targets)))

    def chunks(self) -> Iterator[Grouped]:
        """Parts of at most CHUNK contexts."""
        for begin in range(0, len(self.contexts), CHUNK):
            first = self.first[begin : begin + CHUNK + 1]
            pairs = slice(first[0], first[-1])
            contexts = self.contexts[begin : begin + CHUNK]
            yield Grouped(contexts, first - first[0], self.follower[pairs], self.count[pairs])

    @property
    def weights(self) -> Float64:
        """How many examples each context has: (D,)."""
        return np.add.reduceat(self.count, self.first[:-1])


@dataclass(frozen=True)
class Measured:
    """One run's numbers.

    At step 0 on its first batch (with the batch's own statistics): loss in nats, share of the hidden elements with
    |tanh| > 0.99, units for which that holds on every example. At the end, with the running statistics: training and
    validation loss, and share and units over the whole training set.
    """

    start_loss: float
    start_saturated: float
    start_dead: float
    train: float
    val: float
    saturated: float
    dead: float

    @classmethod
    def row(cls, values: Float64) -> Measured:
        """From the numbers in their order (7,)."""
        return cls(*(float(value) for value in values))

    def values(self) -> tuple[float, ...]:
        """The numbers in their order."""
        return astuple(self)


WIDTH = len(fields(Measured))


def measure(first: Network, first_batch: Grouped, trained: Network, train: Grouped, val: Grouped) -> Measured:
    """All numbers of a run from its network at step 0 and at the end."""
    with np.errstate(invalid="ignore", over="ignore"):  # a network that diverged has the loss NaN
        loss, start_saturated, start_dead = _measure(first, first_batch, training=True)
        train_loss, saturated, dead = _measure(trained, train, training=False)
        val_loss, _, _ = _measure(trained, val, training=False)
    return Measured(loss, start_saturated, start_dead, train_loss, val_loss, saturated, dead)


def _measure(network: Network, data: Grouped, *, training: bool) -> tuple[float, float, float]:
    """Mean cross-entropy, share of saturated elements, number of units saturated on every example."""
    held = {name: array.astype(np.float64) for name, array in network.arrays()}
    loss, saturated, always = 0.0, 0.0, np.ones(HIDDEN, dtype=bool)
    for part in [data] if training else data.chunks():
        active = _hidden(network.norm, held, part.contexts, training)  # (D, H)
        logits = active @ held["output_weight"] + held["output_bias"]  # (D, V)
        logits -= logits.max(1, keepdims=True)
        normaliser = np.log(np.exp(logits).sum(1))  # (D,)
        owner = np.repeat(np.arange(len(active)), np.diff(part.first))
        loss += float((part.count * (normaliser[owner] - logits[owner, part.follower])).sum())
        flat = np.abs(active) > SATURATED
        saturated += float((part.weights @ flat).sum())
        always &= flat.all(0)
    examples = data.count.sum()
    return loss / examples, saturated / (examples * HIDDEN), float(always.sum())


def _hidden(norm: bool, held: dict[str, Float64], contexts: npt.NDArray[np.int64], training: bool) -> Float64:
    x = held["embedding"][contexts].reshape(len(contexts), -1)  # (D, F)
    pre = x @ held["hidden_weight"] + held["hidden_bias"]  # (D, H)
    if norm:
        mean, std = (pre.mean(0), pre.std(0, ddof=1)) if training else (held["running_mean"], held["running_std"])
        pre = held["gain"] * (pre - mean) / std + held["shift"]
    active: Float64 = np.tanh(pre)
    return active
