"""I001. After Goodfellow et al., Deep Learning, §8.4, https://www.deeplearningbook.org/contents/optimization.html."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Role, Signal, Site, Trace

MIN_UNITS = 2  # units that are equal to another one
MIN_SHARE = 0.5  # of the layer's units, for weights and gradients each: above half, some units are equal in both
PROOF_STEPS = 5  # steps 0 … 4 in which a gradient that is zero throughout has to stay so


class SymmetricUnits(Rule):
    """Units of a hidden layer start equal and get equal gradients, so they stay equal.

    ## What it does
    Counts, at the first step, the units of each weight layer whose weights equal another unit's element for element,
    and those whose gradients do. It fires when both counts are at least two and above half of the layer's units. Where
    all gradients are zero, these must stay zero over the first five sampled steps.

    ## Why is this bad
    Units that compute the same and are corrected by the same amount never become different: a layer of 100 such
    units is worth one unit, however long it trains.

    ## Evidence
    The number of units, of units with equal weights and of units with equal gradients.

    ## Stays silent on
    Layers that start at zero or constant but whose gradients differ: branch ends of residual blocks, the second
    factor of a low-rank adapter, layers below randomly initialised ones. Output layers (no weight layer after them):
    the targets tell their units apart, and classes that are absent from the first batch get equal gradients there.
    Runs that loaded weights; embeddings; parameters without a gradient.

    ## Example
        nn.init.constant_(hidden.weight, 0.1)
        nn.init.constant_(output.weight, 0.1)

    ## Fix
    Draw hidden weights at random, with standard deviation gain / √fan_in (`torch.nn.init.kaiming_normal_`). Zero is
    fine for biases, and for the last layer or the last layer of a residual branch. `break-symmetry` draws them so.

    ## References
    - Deep Learning, section 8.4, https://www.deeplearningbook.org/contents/optimization.html
    - torch.nn.init, https://docs.pytorch.org/docs/stable/nn.init.html
    """

    code = "I001"
    name = "symmetric-units"
    stage = Stage.INIT
    severity = Severity.ERROR
    needs = (Signal.START, Signal.WEIGHT_LAYERS, Signal.PARAMETER_GRADIENTS)
    explains = ("A001", "A003", "A007", "G001", "G004", "L013", "N009")
    fixes = ("break-symmetry",)
    min_share = Threshold(MIN_SHARE, "of the layer's units")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each weight layer but the last by the weight's counts at step 0."""
        if trace.facts.weights_loaded:
            return
        graph = Graph(trace)
        for layer in trace.of_kind(Kind.WEIGHT_LAYER):
            if graph.is_output_layer(layer):
                continue
            for weight in trace.parameters_of(layer):
                if weight.slot == "weight" and weight.owner in (None, layer.index):
                    yield from self._judge(trace, layer, weight)

    def _judge(self, trace: Trace, layer: Site, weight: Site) -> Iterator[Finding]:
        units = trace.scalar(weight, "units")
        same = trace.scalar(weight, "identical_units")
        same_gradient = trace.scalar(weight, "identical_gradient_units")
        if units is None or same is None or same_gradient is None:
            return
        threshold = max(float(MIN_UNITS), self.min_share * units)
        if same < MIN_UNITS or same_gradient < MIN_UNITS or min(same, same_gradient) <= self.min_share * units:
            return
        if not _proves_symmetry(trace, weight):
            return
        yield self.finding(
            layer,
            steps=(0, 0),
            measured=same,
            threshold=threshold,
            unit="units",
            message=(
                f"{same:.0f} of the {units:.0f} units of {layer.label} start with the weights of another unit, "
                f"and {same_gradient:.0f} get the gradient of another unit"
            ),
            evidence=(
                Evidence("units", units, "units"),
                Evidence("units with equal weights", same, "units"),
                Evidence("units with equal gradients", same_gradient, "units"),
            ),
        )


def _proves_symmetry(trace: Trace, weight: Site) -> bool:
    """Tell whether equal gradients prove symmetry: they are not all zero at step 0, or zero at every early step."""
    early = [summary for step, summary in trace.summaries(weight, Role.GRADIENT) if step < PROOF_STEPS]
    zero = [summary.zeros == summary.count for summary in early]
    return bool(zero) and (not zero[0] or (len(zero) > 1 and all(zero)))
