"""S005. After Bengio et al. 1994, https://doi.org/10.1109/72.279181."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.attention.recurrence import Recurrence, recurrences
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Trace

MIN_KEPT = 1e-4  # times, over a sequence; Adam's updates then follow the last tenth of the time steps alone
LOST = 6e-8  # times, over a sequence; float32 drops what is smaller beside the gradient of the last time steps
MIN_UPDATE = 1e-4  # update-to-data ratio (1); a tenth of the guide, below which nothing is learned anyhow
MIN_TRAINED = 100  # steps; before them a loss near its baseline says nothing
LATE = 0.5  # share of the steps, after which a loss should have left its baseline
MIN_CALLS = 4  # sampled losses after that, for their spread
MIN_FALL = 0.02  # share of the baseline by which a loss that learns has fallen; noisy targets leave little to learn
NOISES = 3.0  # standard errors of the mean fall


class VanishingRecurrence(Rule):
    """What happens early in a sequence has no effect on what is learned at its end.

    ## What it does
    Measures what is left of a gradient when it has come from the last time step back to the first. For a fused layer
    (`nn.RNN`, `nn.GRU`, `nn.LSTM`) the layer is now and then run again on a few sequences, and the gradient of its last
    hidden state with respect to the first one is taken; for a loop it is the gradient at a layer that is called once
    each time step. It fires when the median over the sampled steps is below 0.0001.

    It is a warning where less than float32 can tell from nothing is left (6e-8), and the one loss of the program, whose
    baseline is known, has after 100 steps or more not left it by more than 2 % and three standard errors, while the
    layer is updated. Otherwise it is an information, and for fused layers in a network that learns nothing: whether a
    task needs a long memory cannot be told from its network. Most language models learn well from the last few symbols,
    and a gated layer forgets at first, by its initialisation.

    ## Why is this bad
    A dependency over the whole sequence gets a gradient that is thousands of times smaller than those of the last few
    steps, and drowns in their noise.

    ## Evidence
    What is left of the gradient, the factor per time step and the length of the sequence.

    ## Stays silent on
    Fused layers in networks that learn, or whose loss has no known baseline; sequences of fewer than 16 time steps;
    loops whose every time step feeds the loss, since the gradient there does not fade; layers without trainable
    parameters.

    ## Example
        layer = nn.LSTM(8, 64)  # the forget gates start at one half: 0.5 to the power of 100 is 1e-30

    ## Fix
    Start the forget gates' biases at one or more, the recurrent matrix orthogonal, or let attention reach back.

    ## References
    - Learning long-term dependencies with gradient descent is difficult, https://doi.org/10.1109/72.279181
    - An empirical exploration of recurrent network architectures (forget bias),
      https://proceedings.mlr.press/v37/jozefowicz15.html
    """

    code = "S005"
    name = "vanishing-recurrence"
    stage = Stage.OUTCOME  # what else keeps a network from learning keeps it from learning to remember
    needs = (Signal.STEPS, Signal.LOSS_VALUES)
    explains = ("G001", "G004", "L013", "U002", "U003")
    min_kept = Threshold(MIN_KEPT, "share of a gradient over a sequence")
    lost = Threshold(LOST, "share of a gradient over a sequence, for a warning")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a recurrence."""
        if missing := super().lacking(trace):
            return missing
        return None if any(True for _ in recurrences(trace)) else "a recurrent layer or loop over 16 time steps"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each recurrence by what is left of the gradient, and its weight by whether the network learns."""
        severity = Severity.INFO if learns(trace) else Severity.WARNING
        for each in recurrences(trace):
            trained = any(trace.sites[index].requires_grad for index in each.site.parameters)
            kept = float(np.median(each.kept))
            if not trained or not kept < self.min_kept or not seen_enough(trace, len(each.steps)):
                continue
            moves = severity is Severity.WARNING and _moves(trace, each)
            if each.whole or moves:
                yield self._report(each, kept, Severity.WARNING if moves and kept < self.lost else Severity.INFO)

    def _report(self, each: Recurrence, kept: float, severity: Severity) -> Finding:
        length, growth = float(np.median(each.lengths)), float(np.median(each.growth))
        where = "time steps" if each.site.kind is Kind.RECURRENT and not each.whole else "calls"
        learned = "; the loss has not left its baseline" if severity is Severity.WARNING else ""
        return self.finding(
            each.site,
            steps=(each.steps[0], each.steps[-1]),
            measured=kept,
            threshold=self.min_kept,
            unit="share of the gradient",
            message=(
                f"{kept:.2g} of the gradient is left when it has come back over {length:.0f} {where} of "
                f"{each.site.label}; {self.min_kept:g} is the limit{learned}"
            ),
            evidence=(
                Evidence("factor per time step", growth),
                Evidence("length", length, "time steps"),
                Evidence("sampled steps", float(len(each.steps)), "steps"),
            ),
            severity=severity,
        )


def _moves(trace: Trace, each: Recurrence) -> bool:
    """Tell whether the recurrence is being trained: else something else keeps it as it was initialised."""
    ratios = [trace.update_to_data(trace.sites[index])[1] for index in each.site.parameters]
    return any(len(ratio) and float(np.median(ratio)) > MIN_UPDATE for ratio in ratios)


def learns(trace: Trace) -> bool:
    """Tell whether the one loss has left its baseline, or it is not known or too early to say."""
    if len({call.site for call in trace.loss_calls}) != 1 or max(trace.steps, default=0) < MIN_TRAINED:
        return True
    late = [call for call in trace.loss_calls if call.step >= LATE * trace.steps[-1]]
    falls = np.array([1 - call.value / call.baseline for call in late if call.baseline and call.baseline > 0])
    if len(falls) < MIN_CALLS or not np.isfinite(falls).all():
        return True
    noise = NOISES * float(falls.std(ddof=1)) / math.sqrt(len(falls))
    return float(falls.mean()) > max(noise, MIN_FALL)
