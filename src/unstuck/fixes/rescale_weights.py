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
