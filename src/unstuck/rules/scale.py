"""How large initial weights are beside what fits the function that follows; used by the rule and by its remedy."""

from __future__ import annotations

import math

TOO_LARGE = 3.0  # times gain / √fan_in; He and Glorot start at 0.5 to 1.5 of it
TOO_SMALL = 0.25  # times gain / √fan_in; torch's default linear layer before tanh starts at 0.35
LARGE_STD = 3.0  # of the pre-activations (1); at it, 49 % of a tanh's normal inputs are saturated
SMALL_STD = 0.3  # of the pre-activations (1); below it any smooth function is a straight line


def is_unscaled(
    weight_std: float,
    fan_in: int,
    gain: float,
    pre_activation_std: float,
    limits: tuple[float, float] = (TOO_SMALL, TOO_LARGE),
) -> bool:
    """Tell whether initial weights are too large or too small for what follows, and show it in the pre-activations.

    `weight_std` is measured about zero (the root mean square), so that weights with a mean count in full; weights
    that are all zero are not unscaled. `gain` is that of the function which follows; `limits` are times gain / √fan_in.
    All are pure numbers.
    """
    scale = weight_std * math.sqrt(fan_in)
    if not (math.isfinite(scale) and math.isfinite(pre_activation_std)) or scale <= 0 or gain <= 0:
        return False
    too_small_limit, too_large_limit = limits
    too_large = scale / gain > too_large_limit and pre_activation_std > LARGE_STD
    too_small = scale / gain < too_small_limit and pre_activation_std < SMALL_STD
    return too_large or too_small
