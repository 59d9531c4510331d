"""G008. After https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MIN_BOUND = 0.05  # on the norm of the unscaled gradients (1); bounds in use are 0.1 to 10
MIN_SHRINKAGE = 2.0  # times, median; a clip that takes less is no loss
MIN_SCALE = 1.0  # AMP's factor; at 1 there is nothing to unscale


class ClippedScaledGradients(Rule):
    """Gradients are clipped while AMP's loss scale is still in them.

    ## What it does
    Follows AMP's loss scale through `GradScaler.scale`, backward and `GradScaler.unscale_`, and reads what
    `clip_grad_norm_` does. It fires when gradients are clipped that are still scaled, the bound without the scale is
    below 0.05, and the norm at least halves in the median over the sampled steps. It points at the clipping call.

    ## Why is this bad
    The bound is meant for the gradients themselves. Against ones that are thousands of times larger it acts at every
    step, and the update that is left after unscaling is thousands of times too small; it also changes whenever the
    scaler changes its scale.

    ## Evidence
    The median scale, the bound as given and without the scale, and the norm of the scaled gradients.

    ## Stays silent on
    Clipping after `unscale_`; scalers that are disabled or have a scale of 1; a bound that is multiplied by the
    scale; bounds that the gradients do not reach.

    ## Example
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)

    ## Fix
    Call `scaler.unscale_(optimizer)` between backward and clipping.

    ## References
    - Automatic mixed precision examples, https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping
    """

    code = "G008"
    name = "clipped-scaled-gradients"
    stage = Stage.GRADIENT
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    explains = ("G007", "L013", "U002", "U005")
    min_bound = Threshold(MIN_BOUND, "bound on the norm of unscaled gradients")
    min_shrinkage = Threshold(MIN_SHRINKAGE, "times")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs clipping calls."""
        if missing := super().lacking(trace):
            return missing
        clips = any(trace.scalars(site, "clip_coefficient") for site in trace.of_kind(Kind.CLIPPING))
        return None if clips else "a call of torch.nn.utils.clip_grad_norm_"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each place at which gradients are clipped."""
        for site in trace.of_kind(Kind.CLIPPING):
            scales = dict(trace.scalars(site, "clip_scale"))
            scaled = [step for step, scale in scales.items() if scale > MIN_SCALE]
            if scaled and seen_enough(trace, len(scaled)) and 2 * len(scaled) > len(scales):
                yield from self._judge(trace, site, scaled)

    def _judge(self, trace: Trace, site: Site, scaled: list[int]) -> Iterator[Finding]:
        names = ("clip_bound", "clip_norm", "clip_coefficient", "clip_scale")
        numbers = np.array([[trace.scalar(site, name, step) for name in names] for step in scaled], dtype=np.float64)
        bound, norm, coefficient, scale = (float(value) for value in np.median(numbers, axis=0))
        own_bound = float(np.median(numbers[:, 0] / numbers[:, 3]))
        if own_bound >= self.min_bound or coefficient * self.min_shrinkage > 1:
            return
        yield self.finding(
            site,
            steps=(scaled[0], scaled[-1]),
            measured=own_bound,
            threshold=self.min_bound,
            unit="1",
            message=(
                f"gradients are clipped to a norm of {bound:.3g} while multiplied by AMP's scale of {scale:g}; "
                f"without it the bound is {own_bound:.2g}, and their norm {norm / scale:.2g}"
            ),
            evidence=(
                Evidence("loss scale", scale),
                Evidence("bound", bound),
                Evidence("norm of the scaled gradients", norm),
                Evidence("sampled steps", float(len(scaled)), "steps"),
            ),
        )
