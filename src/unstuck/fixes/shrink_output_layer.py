"""shrink-output-layer: start with nearly uniform predictions.

Small output weights and a zero bias make every logit nearly equal, so that the loss starts at its baseline, -ln(1/C)
for C classes, instead of at the price of confident mistakes. Independent logits of standard deviation s cost about
s²/2 nat above the baseline (second-order expansion of log-sum-exp), so 0.1 leaves 0.005 nat.

Do not use on loaded weights, on weights shared with an embedding, or where the bias holds a prior on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from unstuck.findings import Finding
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy
from unstuck.fixes.rescale_weights import in_first_pass

LOGIT_STD = 0.1  # nats: about 0.005 nat above the baseline


def shrink(weight: Tensor, biases: Sequence[Tensor], measured_std: float) -> float:
    """Scale `weight` in place so that logits of std `measured_std` get at most `LOGIT_STD`; zero `biases`.

    Returns the factor (1 when the logits were small enough). Raises ValueError when the measured std is not finite.
    """
    if not 0 <= measured_std < float("inf"):
        raise ValueError(f"cannot shrink an output layer whose logits have std {measured_std}")
    factor = min(1.0, LOGIT_STD / measured_std) if measured_std else 1.0
    weight.data.mul_(factor)
    for bias in biases:
        bias.data.zero_()
    return factor


class ShrinkOutputLayer(Remedy):
    """Shrink the output layer so that the network starts without an opinion.

    ## What it does
    In a forward pass on the first batch, scales the output layer's weights so that its logits have a standard deviation
    of 0.1 and zeroes its bias, so that the loss starts at its baseline, -ln(1/C) nat for C classes.

    ## When it must not be used
    On loaded weights, on weights shared with an embedding (both are refused), or where the bias is a prior on purpose.

    ## References
    Second-order expansion of log-sum-exp: logits of standard deviation s cost about s²/2 nat above the baseline.
    """

    name = "shrink-output-layer"
    initialises = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Shrink the layer that feeds the loss."""
        return in_first_pass(self.name, patient, finding)
