"""N006. After Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, and He et al. 2016, section 1."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.depth import Chain, chains
from unstuck.rules.init.unscaled_weights import UnscaledWeights
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import finite, seen_enough, span
from unstuck.rules.wording import ratio_of
from unstuck.trace import Kind, Role, Signal, Site, Trace

MIN_LAYERS = 8  # hidden weight layers in a row; from ten or so on plain networks of the time would not train
MAX_CHANGE = 100.0  # times, of the gradient's norm from one end to the other, as for G001 and G002
MAX_SLOPE = 0.08  # decades per layer, likewise

Steps = tuple[int, int]


class MissingNormalisation(Rule):
    """A deep plain network has neither norms nor skip connections, and its gradient does not survive the depth.

    ## What it does
    Looks for eight or more hidden weight layers in a row with no normalisation and no connection around them, and takes
    the norm of the gradient at each one's output (the median over the sampled steps). It fires when that changes by
    more than a factor of 100 from one end to the other, and by more than 0.08 decades a layer, though the initial
    weights have the scale that their functions ask for.

    ## Why is this bad
    Without a norm each layer multiplies the scale of signal and gradient by a factor of its own, and the factors
    multiply up: at this depth no initialisation alone keeps all layers learning at a like pace.

    ## Evidence
    The change of the gradient's norm, the slope in decades per layer, the number of layers.

    ## Stays silent on
    Deep plain networks whose gradient survives (orthogonal or self-normalising ones); chains that a norm, an attention
    or a skip connection interrupts; weights that are plainly unscaled, which is I002; recurrence over time.

    ## Example
        nn.Sequential(*[m for _ in range(9) for m in (nn.Linear(40, 40), nn.Sigmoid())])

    ## Fix
    Put BatchNorm or LayerNorm between each weight layer and its function, or add skip connections around blocks of
    two layers. `insert-normalisation` does the former in models made of modules.

    ## References
    - Batch Normalization, https://arxiv.org/abs/1502.03167
    - Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385
    """

    code = "N006"
    name = "missing-normalisation"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.WEIGHT_LAYERS, Signal.OUTPUT_GRADIENTS)
    fixes = ("insert-normalisation",)
    explains = ("I003", "I004", "G001", "G002", "G004", "G006", "A001", "L013", "U002", "U003")
    max_change = Threshold(MAX_CHANGE, "times, over a chain")
    max_slope = Threshold(MAX_SLOPE, "decades per layer")
    min_layers = Threshold(MIN_LAYERS, "hidden weight layers in a row")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a chain long enough."""
        if missing := super().lacking(trace):
            return missing
        normed = trace.of_kind(Kind.NORM) and len(trace.of_kind(Kind.WEIGHT_LAYER)) > self.min_layers
        if normed or any(len(chain.layers) >= self.min_layers for chain in chains(trace)):
            return None
        return f"{self.min_layers:g} hidden weight layers, in a row or with norms between"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each long chain by the gradient at its layers."""
        unscaled = UnscaledWeights()
        blamed = set() if unscaled.lacking(trace) else {finding.site_index for finding in unscaled.detect(trace)}
        for chain in chains(trace):
            if len(chain.layers) < self.min_layers or blamed & {layer.index for layer in chain.layers}:
                continue
            points = [(layer, point) for layer in chain.layers for point in [_norm(trace, layer)] if point]
            if len(points) < self.min_layers:
                continue
            slope = float(np.polyfit(np.arange(len(points)), [math.log10(norm) for _, (norm, _) in points], 1)[0])
            change = 10.0 ** min(abs(slope) * (len(points) - 1), 300.0)
            if abs(slope) > self.max_slope and change > self.max_change:
                yield self._report(chain, points[0][1][1], slope, change)

    def _report(self, chain: Chain, steps: Steps, slope: float, change: float) -> Finding:
        first, last = chain.layers[0], chain.layers[-1]
        return self.finding(
            first,
            steps=steps,
            measured=change,
            threshold=self.max_change,
            unit="1",
            message=(
                f"{len(chain.layers)} weight layers in a row, {first.label} to {last.label}, have no normalisation and "
                f"no skip connection, and the gradient {'shrinks' if slope > 0 else 'grows'} {ratio_of(change)}-fold "
                "on its way back through them"
            ),
            evidence=(Evidence("slope", slope, "decades per layer"), Evidence("layers", float(len(chain.layers)))),
            fixes=self.fixes if all(layer.path for layer in chain.layers) else (),  # norms stand between modules
        )


def _norm(trace: Trace, layer: Site) -> tuple[float, Steps] | None:
    """Return the median norm of the gradient at a layer's output, and its steps; None where it is zero or unknown."""
    steps, norms = finite(trace.series(layer, Role.OUTPUT_GRADIENT, "norm"))
    if not len(steps) or not seen_enough(trace, len(steps)):
        return None
    norm = float(np.median(norms))
    return (norm, span(steps)) if norm > 0 else None
