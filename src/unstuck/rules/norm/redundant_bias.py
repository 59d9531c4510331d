"""N001. After Ioffe and Szegedy 2015, section 3.2, https://arxiv.org/abs/1502.03167."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_REDUNDANT = 0  # units with a bias that the next layer subtracts again
MAX_GRADIENT_SHARE = 0.05  # of the weight's gradient (1); bfloat16 leaves 0.008, frozen statistics give 3.7 or more


class RedundantBias(Rule):
    """A layer's bias is subtracted again by the batch normalisation right after it.

    ## What it does
    Fires for each weight layer with a trainable bias whose output goes directly into batch normalisation and nowhere
    else, provided that the bias's gradient is next to nothing beside the weight's, as it is when the batch's mean is
    subtracted. It is information, not a warning: training does not suffer.

    ## Why is this bad
    Batch normalisation subtracts each unit's mean, and with it whatever constant was added before. The bias costs
    memory, optimizer state and time, and its gradient is rounding noise, which misleads who looks at it.

    ## Evidence
    The number of biases, and the rms of their gradient as a share of the weight's.

    ## Stays silent on
    Layers whose output is used elsewhere too; layer, group, instance and RMS normalisation, which mix units or keep
    the mean; batch normalisation with frozen statistics, behind which the bias does get a gradient; frozen biases.

    ## Example
        nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64))  # bias=False would do

    ## Fix
    Build the layer with bias=False; the norm's own bias does the work. In a trained model subtract the bias from
    the running mean, which leaves the function as it is: `fold-bias-into-norm`.

    ## References
    - Batch Normalization, section 3.2, https://arxiv.org/abs/1502.03167
    - Performance tuning guide, disable bias for convolutions directly followed by a batch norm,
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    code = "N001"
    name = "redundant-bias"
    stage = Stage.NORMALISATION
    severity = Severity.INFO
    needs = (Signal.STEPS, Signal.WEIGHT_LAYERS, Signal.NORMS)
    fixes = ("fold-bias-into-norm",)
    max_gradient_share = Threshold(MAX_GRADIENT_SHARE, "of the weight's gradient")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each weight layer that feeds batch normalisation alone."""
        for layer in trace.of_kind(Kind.WEIGHT_LAYER):
            norms = trace.consumers(layer, direct=False)
            biases = [p for p in trace.parameters_of(layer) if p.slot == "bias" and p.requires_grad]
            if not biases or not norms or any(n.kind is not Kind.NORM or n.op != "batch_norm" for n in norms):
                continue
            share = _gradient_share(trace, layer, biases[0])
            if len(trace.consumers(layer)) == len(norms) and (share is None or share <= self.max_gradient_share):
                yield self._report(trace, layer, biases[0], norms[0], share)

    def _report(self, trace: Trace, layer: Site, bias: Site, norm: Site, share: float | None) -> Finding:
        count = math.prod(bias.shape)
        steps = trace.steps or [0]
        return self.finding(
            layer,
            steps=(steps[0], steps[-1]),
            measured=float(count),
            threshold=float(MAX_REDUNDANT),
            unit="units",
            message=f"the {count} biases of {layer.label} feed only {norm.label}, which subtracts them again",
            evidence=() if share is None else (Evidence("bias gradient to weight gradient", share),),
            related=(norm,),
        )


def _gradient_share(trace: Trace, layer: Site, bias: Site) -> float | None:
    """Return the largest rms(bias gradient) / rms(weight gradient) of the sampled steps, None where unknown."""
    weight = next((p for p in trace.parameters_of(layer) if p.slot == "weight"), None)
    shares = []
    for step, gradient in trace.summaries(bias, Role.GRADIENT):
        other = trace.summary(weight, Role.GRADIENT, step) if weight is not None else None
        if other is not None and other.rms > 0 and math.isfinite(gradient.rms):
            shares.append(gradient.rms / other.rms)
    return max(shares, default=None)
