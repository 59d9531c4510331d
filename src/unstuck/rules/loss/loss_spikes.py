"""L014. After Chowdhery et al. 2022, section 5.1 (loss spikes), https://arxiv.org/abs/2204.02311."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.objective import curve, main_loss, several_objectives
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Trace
from unstuck.trace.trace import Vector

MIN_SIGMAS = 8.0  # robust standard deviations above the trailing median, of the loss
MIN_LOG_SIGMAS = 5.0  # the same of its logarithm: losses of small batches are skewed, their logarithms far less
MIN_RISE = 0.2  # of the trailing median
MIN_SPIKES = 3.0  # separate ones; one or two may be anything
OF_START = 1.0  # of the first losses' median (1): a batch on which the network does worse than when it knew nothing
TRAILING = 50  # losses before the one that is judged
MIN_STEPS = 100  # losses
MIN_KNOWN = 0.8  # of the steps between the first and last known loss: on a GPU only samples are known
MAX_SHARE = 0.15  # of the steps (1); more is a mixture of two kinds of batches, not spikes
MIN_PERIOD = 10  # steps; spikes at multiples of one period are the small last batch of an epoch
LASTING = 2.0  # steps a spike, on average; outliers in the data are gone with their batch, and clipping leaves them
NORMAL = 1.4826  # standard deviation over median absolute deviation, of normal numbers
LEAST_NOISE = 0.01  # of the trailing median; a loss that hardly moves makes no spike of a ripple
ROWS = 10_000  # losses judged at a time, to bound memory


class LossSpikes(Rule):
    """Again and again the loss of a single step is far above its neighbours.

    ## What it does
    Compares each step's loss with the 50 before it. A spike is more than 8 robust standard deviations (1.48 times the
    median absolute deviation) and 20 % above their median, more than 5 on a logarithmic scale, and above the
    first losses. It fires on 3 separate spikes or more.

    ## Why is this bad
    The gradient of such a step is as large as the loss: one batch undoes many updates. Behind it are often records
    unlike the others, a batch that was not scaled like the rest, or a learning rate at the edge of divergence.

    ## Evidence
    How many spikes, the highest one, and the usual loss around it.

    ## Stays silent on
    Losses of single records or small batches, which are skewed but not spiked; a step up to another level; ripples of
    a loss that stays below where it began; the small last batch of each epoch; several objectives; losses that take
    values below zero; runs whose losses are known at samples only (reported as not checked).

    ## Example
        y[2431] = 9999.0  # a missing value's code among standardised targets

    ## Fix
    Look at the batches of these steps. Clip gradients (`clip-gradients`) or targets, use a Huber loss, or lower the
    learning rate.

    ## References
    - PaLM, section 5.1, https://arxiv.org/abs/2204.02311
    """

    code = "L014"
    name = "loss-spikes"
    stage = Stage.OUTCOME
    severity = Severity.WARNING
    needs = (Signal.LOSS_VALUES,)
    explains = ("L012",)
    fixes = ("clip-gradients",)
    min_spikes = Threshold(MIN_SPIKES, "spikes")
    min_sigmas = Threshold(MIN_SIGMAS, "robust standard deviations")
    min_rise = Threshold(MIN_RISE, "of the trailing median")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs the loss of nearly every step."""
        if missing := super().lacking(trace):
            return missing
        count, last = len(trace.objective), max(trace.objective)
        enough = count >= MIN_STEPS and count >= MIN_KNOWN * (last - min(trace.objective) + 1)
        return None if enough else f"the loss at each of {MIN_STEPS} steps"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the objective of the run as a whole."""
        steps, values = curve(trace)
        if len(values) < MIN_STEPS or several_objectives(trace) or values.min() <= 0:
            return
        high, usual = _spikes(values, self.min_sigmas, self.min_rise)
        starts = high[np.diff(high, prepend=-TRAILING) > 1]  # neighbours are one spike
        if len(starts) < self.min_spikes or len(high) > MAX_SHARE * len(values) or _is_periodic(starts):
            return
        top = high[int(np.argmax(values[high]))]
        yield self.finding(
            main_loss(trace),
            steps=(int(steps[high[0]]), int(steps[high[-1]])),
            measured=float(len(starts)),
            threshold=self.min_spikes,
            unit="spikes",
            message=(
                f"the loss shoots up {len(starts)} times, each for a step or a few; the highest is {values[top]:.3g} "
                f"at step {steps[top]} among losses near {usual[top]:.3g}"
            ),
            evidence=(
                Evidence("share of the steps", 100.0 * len(high) / len(values), "%"),
                Evidence("mean length of a spike", len(high) / len(starts), "steps"),
            ),
            fixes=self.fixes if len(high) >= LASTING * len(starts) and not trace.of_kind(Kind.CLIPPING) else (),
        )


def _spikes(values: Vector, sigmas: float, rise: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Vector]:
    """Return the positions of losses far above those before them, and the trailing median at every position."""
    usual = np.full(len(values), np.inf)
    high = np.zeros(len(values), dtype=bool)
    least = OF_START * float(np.median(values[:TRAILING]))
    before = sliding_window_view(values, TRAILING)[:-1]  # row i: the losses before position i + TRAILING
    for begin in range(0, len(before), ROWS):
        rows = before[begin : begin + ROWS]
        at = slice(begin + TRAILING, begin + TRAILING + len(rows))
        middle, noise = _middle_and_noise(rows)
        log_middle, log_noise = _middle_and_noise(np.log(rows))
        now = values[at]
        usual[at] = middle
        linear = now - middle > np.maximum(sigmas * np.maximum(noise, LEAST_NOISE * middle), rise * middle)
        high[at] = linear & (np.log(now) - log_middle > MIN_LOG_SIGMAS * log_noise) & (now > least)
    return np.flatnonzero(high), usual


def _middle_and_noise(rows: Vector) -> tuple[Vector, Vector]:
    middle = np.median(rows, axis=1)
    return middle, NORMAL * np.median(np.abs(rows - middle[:, None]), axis=1)


def _is_periodic(starts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bool:
    gaps = np.diff(starts)
    period = int(gaps.min())
    return period >= MIN_PERIOD and bool(np.all(gaps % period == 0))
