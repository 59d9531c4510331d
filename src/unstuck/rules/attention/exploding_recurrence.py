"""S004. After Pascanu et al. 2013, https://proceedings.mlr.press/v28/pascanu13.html."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding
from unstuck.rules.attention.recurrence import Recurrence, recurrences
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import MIN_SAMPLED_STEPS
from unstuck.trace import Kind, Signal, Trace

MAX_GROWTH = 1.05  # times per time step; over MIN_LENGTH steps it makes 11 of 1
MIN_LENGTH = 50  # time steps; a factor that is harmless over ten steps is not over a hundred
MOST = 1e9  # times per time step; what has overflowed is reported as this


class ExplodingRecurrence(Rule):
    """Gradients grow with every time step on their way back through a recurrence.

    ## What it does
    Measures the factor by which a gradient changes in one time step. For a fused layer (`nn.RNN`, `nn.GRU`, `nn.LSTM`)
    the layer is now and then run again on a few sequences, and the gradient of its last hidden state with respect to
    the first one is taken; for a loop it is the slope of the gradients at a layer that is called once each time step.
    It fires when the median over the sampled steps is above 1.05, in sequences of 50 time steps or more.

    ## Why is this bad
    At 1.05 a time step, 100 steps make 130 of 1, and at 1.2 they make 80 million. The earliest time steps then drown
    all others, one update throws the weights far off, and with a little more the numbers overflow.

    ## Evidence
    The factor per time step, the factor over the sequence and its length.

    ## Stays silent on
    Sequences of fewer than 50 time steps; layers without trainable parameters (echo state networks); layers that are
    called often but not on their own output; gradients that do not grow steadily.

    ## Example
        w = 2.0 * torch.randn(n, n) / n**0.5  # the state's change is doubled, less what tanh takes off
        for x in sequence:
            h = torch.tanh(x @ u + h @ w)

    ## Fix
    Start from an orthogonal recurrent matrix, use a gated layer, and clip the norm of the gradients.

    ## References
    - On the difficulty of training recurrent neural networks, https://proceedings.mlr.press/v28/pascanu13.html
    - torch.nn.utils.clip_grad_norm_,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
    """

    code = "S004"
    name = "exploding-recurrence"
    stage = Stage.GRADIENT
    needs = (Signal.STEPS,)
    explains = ("A001", "A006", "G002", "G005", "G007", "I003", "L001", "L003", "L011", "L012", "L013", "L014", "U001")
    max_growth = Threshold(MAX_GROWTH, "times per time step")
    min_length = Threshold(MIN_LENGTH, "time steps")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a recurrence over enough time steps."""
        if missing := super().lacking(trace):
            return missing
        long = any(max(each.lengths) >= self.min_length for each in recurrences(trace))
        return None if long else f"a recurrent layer or loop over {self.min_length:g} time steps"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each recurrence by its median growth."""
        for each in recurrences(trace):
            trained = any(trace.sites[index].requires_grad for index in each.site.parameters)
            if trained and np.median(each.lengths) >= self.min_length and _enough(trace, each):
                growth = min(float(np.median(each.growth)), MOST)
                if growth > self.max_growth:
                    yield self._report(each, growth)

    def _report(self, each: Recurrence, growth: float) -> Finding:
        length = float(np.median(each.lengths))
        total = min(length * math.log10(growth), 300.0)
        where = "time steps" if each.site.kind is Kind.RECURRENT and not each.whole else "calls"
        return self.finding(
            each.site,
            steps=(each.steps[0], each.steps[-1]),
            measured=growth,
            threshold=self.max_growth,
            unit="times per time step",
            message=(
                f"gradients grow {growth:.3g}-fold with each time step back through {each.site.label}, which is "
                f"{10**total:.2g}-fold over {length:.0f} {where}; {self.max_growth:g} is the limit"
            ),
            evidence=(
                Evidence("growth over the sequence", 10**total),
                Evidence("length", length, "time steps"),
                Evidence("sampled steps", float(len(each.steps)), "steps"),
            ),
        )


def _enough(trace: Trace, each: Recurrence) -> bool:
    """Tell whether the growth was seen at four steps, or at every sampled one whose loss was finite."""
    finite = sum(math.isfinite(trace.objective.get(step, math.nan)) for step in trace.steps)
    return len(each.steps) >= min(MIN_SAMPLED_STEPS, max(1, finite))
