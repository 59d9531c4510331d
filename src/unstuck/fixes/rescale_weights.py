"""rescale-weights: scale a layer so that its pre-activations start at unit standard deviation.

Unit pre-activations are what the gain of each activation function is made to keep: with gain/√fan_in weights
(https://docs.pytorch.org/docs/stable/nn.init.html), the rms of f(z), z ~ N(0, 1), times the gain is 1 again at the
next layer. Measuring on the data instead of trusting the input to have unit variance follows LSUV (Mishkin & Matas
2016, https://arxiv.org/abs/1511.06422), whose authors also rescale layer by layer in execution order.

Do not use on loaded weights, on weights shared with another layer, or on a layer that is zero on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from unstuck.findings import Finding
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld

TARGET_STD = 1.0  # of the pre-activations, dimensionless; the fixed point that the gains keep


def rescale(weight: Tensor, biases: Sequence[Tensor], measured_std: float) -> float:
    """Scale `weight` and `biases` in place (any shape) so that outputs of std `measured_std` get `TARGET_STD`.

    Returns the factor. Written through `.data`, so that autograd's version counters do not notice.
    Raises ValueError when the measured std is not positive and finite.
    """
    if not 0 < measured_std < float("inf"):
        raise ValueError(f"cannot rescale a layer whose pre-activations have std {measured_std}")
    factor = TARGET_STD / measured_std
    for parameter in (weight, *biases):
        parameter.data.mul_(factor)
    return factor


class RescaleWeights(Remedy):
    """Scale weight layers so that their pre-activations start at unit standard deviation.

    ## What it does
    In one forward pass on the first batch, in execution order, each layer whose weights ignore the fan-in, or that
    saturates the function behind it, is multiplied by 1 / (standard deviation of its output), biases included, and its
    output is made again before the next layer is judged. One pass suffices, as the output is linear in the weights.

    ## When it must not be used
    On loaded weights, on weights shared with another layer, on layers that are zero on purpose, or where a
    normalisation follows (it undoes any scale). All of these are refused.

    ## References
    Mishkin & Matas 2016, https://arxiv.org/abs/1511.06422; gains:
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain
    """

    name = "rescale-weights"
    initialises = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Rescale all layers that need it, in one pass."""
        return in_first_pass(self.name, patient, finding)


def in_first_pass(name: str, patient: Patient, finding: Finding) -> list[Fix]:
    """Apply a remedy that acts within a first pass; raises Withheld when it found nothing to do."""
    if patient.repeat is None:
        raise Withheld("it acts in the first forward pass, which is over")
    fixes = patient.repeat([name])
    if not fixes:
        raise Withheld(f"{finding.site} is within its limits in the first pass")
    return fixes
