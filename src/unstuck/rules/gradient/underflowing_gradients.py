"""G006. After Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740 (figure 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.stats.summary import EDGES, TensorSummary
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_SUBNORMAL = 0.3  # of a layer's gradient elements that are not zero (1); the faulty program of the tuned half has 1


class Underflow(NamedTuple):
    """A layer's gradients, as medians over the sampled steps."""

    site: Site
    share: float  # of the elements that are not zero: below the least normal number
    zeros: float  # of all elements
    rms: float
    limit: float  # the least normal number, in units of the unscaled loss


class UnderflowingGradients(Rule):
    """Gradients in float16 are too small for its range: they lose their digits, or become zero.

    ## What it does
    Takes the gradient at the output of each layer that computes in float16, as it is in memory (times AMP's loss
    scale), and fires when more than 30 % of the elements that are not zero are below 6.1e-5, the least normal number,
    and the root mean square is as well (medians over the sampled steps). It points at the call of backward.

    ## Why is this bad
    Below 6.1e-5 a float16 number has less than eleven bits, at 6e-8 one, and below 3e-8 it is zero. The sums of many
    small contributions that make up a weight's gradient are then of the wrong size or gone.

    ## Evidence
    The layer with the largest share, that share, the share of elements that are exactly zero, the root mean square,
    and the number of layers affected.

    ## Stays silent on
    Zeros, which also come from ReLU, pooling, dropout and ignored targets; layers whose gradient as a whole is in
    range, whatever its smallest elements are; bfloat16, which has float32's range; a loss scale that lifts the
    gradients.

    ## Example
        with torch.autocast("cuda", dtype=torch.float16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()  # no GradScaler

    ## Fix
    Scale the loss with `torch.amp.GradScaler`, or use bfloat16.

    ## References
    - Mixed precision training, https://arxiv.org/abs/1710.03740
    - torch.amp, gradient scaling, https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling
    """

    code = "G006"
    name = "underflowing-gradients"
    stage = Stage.GRADIENT
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.WEIGHT_LAYERS, Signal.OUTPUT_GRADIENTS)
    explains = ("G001", "G004", "L013", "U002", "U003", "U005")
    max_subnormal = Threshold(MAX_SUBNORMAL, "share of the gradient elements that are not zero")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a layer in half precision."""
        if missing := super().lacking(trace):
            return missing
        half = any(trace.scalars(site, "smallest_normal") for site in trace.of_kind(Kind.WEIGHT_LAYER))
        return None if half else "a layer that computes in float16"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each layer, and report the worst."""
        layers = [layer for site in trace.of_kind(Kind.WEIGHT_LAYER) for layer in [_measure(trace, site)] if layer]
        bad = [layer for layer in layers if layer.share > self.max_subnormal and layer.rms < layer.limit]
        if not bad:
            return
        worst = max(bad, key=lambda layer: layer.share)
        calls = trace.of_kind(Kind.BACKWARD)
        yield self.finding(
            calls[-1] if calls else worst.site,
            steps=(trace.steps[0], trace.steps[-1]),
            measured=worst.share,
            threshold=self.max_subnormal,
            unit="1",
            message=(
                f"{100 * worst.share:.0f} % of the gradient elements at {worst.site.label} that are not zero are below "
                f"{worst.limit:.2g}, the least normal number of float16, and their root mean square is "
                f"{worst.rms:.2g}; so at {len(bad)} of {len(layers)} layers in float16"
            ),
            evidence=(
                Evidence("elements that are exactly zero", worst.zeros),
                Evidence("rms of the gradient", worst.rms),
                Evidence("layers affected", float(len(bad)), f"of {len(layers)}"),
            ),
        )


def _measure(trace: Trace, site: Site) -> Underflow | None:
    limits = dict(trace.scalars(site, "smallest_normal"))
    seen = [(limits[step], s) for step, s in trace.summaries(site, Role.OUTPUT_GRADIENT) if step in limits and s.finite]
    if not seen or not seen_enough(trace, len(seen)):
        return None
    rows = [(_below(s, limit), s.zeros / s.finite, s.rms, limit) for limit, s in seen]
    share, zeros, rms, limit = (float(np.median(column)) for column in zip(*rows, strict=True))
    return Underflow(site, share, zeros, rms, limit)


def _below(summary: TensorSummary, limit: float) -> float:
    """Return the share of the elements that are not zero whose size is below `limit`; 0 when all are zero."""
    bins = int(np.searchsorted(EDGES, limit, side="right"))
    others = summary.finite - summary.zeros
    return float(summary.histogram[:, :bins].sum()) / others if others else 0.0
