"""What the ladder measures of a network: losses in nats, saturated elements and dead units; in float64.

Few contexts are different (5,438 of the lecture's 182,625 examples), so that each is computed once and weighed by how
often each symbol follows it.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
import numpy.typing as npt

from unstuck.lm.examples import Examples
from unstuck.lm.stages import SATURATED, IntArray, Network

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grouped:
    """The different contexts (D, T) of some examples, and how often each symbol follows each: (D, V)."""

    contexts: npt.NDArray[np.int64]
    counts: Float64

    @classmethod
    def of(cls, examples: Examples, symbols: int) -> Grouped:
        """Group examples; there must be one at least."""
        contexts, places = np.unique(examples.contexts.numpy(), axis=0, return_inverse=True)
        counts = np.zeros((len(contexts), symbols))
        np.add.at(counts, (places.reshape(-1), examples.targets.numpy()), 1)
        return cls(contexts, counts)

    @classmethod
    def batch(cls, contexts: IntArray, targets: IntArray, symbols: int) -> Grouped:
        """A batch as it is, its repeated contexts too: BatchNorm's statistics count each."""
        return cls(contexts.astype(np.int64), np.eye(symbols)[targets])


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
    active, loss = _forward(first, first_batch, training=True)
    start_saturated, start_dead = _saturation(active, np.ones(len(active)))
    active, train_loss = _forward(trained, train, training=False)
    saturated, dead = _saturation(active, train.counts.sum(1))
    _, val_loss = _forward(trained, val, training=False)
    return Measured(loss, start_saturated, start_dead, train_loss, val_loss, saturated, dead)


def _forward(network: Network, data: Grouped, *, training: bool) -> tuple[Float64, float]:
    """The hidden layer (D, H) and the mean cross-entropy."""
    held = {name: array.astype(np.float64) for name, array in network.arrays()}
    x = held["embedding"][data.contexts].reshape(len(data.contexts), -1)  # (D, F)
    pre = x @ held["hidden_weight"] + held["hidden_bias"]  # (D, H)
    if network.norm:
        mean, std = (pre.mean(0), pre.std(0, ddof=1)) if training else (held["running_mean"], held["running_std"])
        pre = held["gain"] * (pre - mean) / std + held["shift"]
    active = np.tanh(pre)
    logits = active @ held["output_weight"] + held["output_bias"]  # (D, V)
    logits -= logits.max(1, keepdims=True)
    losses = np.log(np.exp(logits).sum(1, keepdims=True)) - logits
    return active, float((losses * data.counts).sum() / data.counts.sum())


def _saturation(active: Float64, weights: Float64) -> tuple[float, float]:
    """Share of saturated elements, its rows weighed, and the number of units saturated in every row."""
    flat = np.abs(active) > SATURATED
    share = float((weights @ flat).sum() / (weights.sum() * active.shape[1]))
    return share, float(flat.all(0).sum())
