"""Means with their intervals over few runs: Student's t (https://doi.org/10.2307/2331554), without scipy.

For whole degrees of freedom the distribution is a finite sum of powers of cosines: Abramowitz & Stegun 1964, Handbook
of Mathematical Functions, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

LEVEL = 0.95


def within(t: float, degrees: int) -> float:
    """The share of Student's t distribution of `degrees` >= 1 that lies in [-t, t], t >= 0."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(1 + odd, degrees, 2):
        total += term
        term *= cosine * cosine * power / (power + 1)
    share = math.sin(angle) * total
    return 2 / math.pi * (angle + share) if odd else share


@cache
def quantile(degrees: int, level: float = LEVEL) -> float:
    """The t whose [-t, t] holds the share `level` (0 < level < 1) of Student's t with `degrees` >= 1; by bisection."""
    low, high = 0.0, 1.0
    while within(high, degrees) < level:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, degrees) < level else (low, middle)
    return high


@dataclass(frozen=True)
class Estimate:
    """The mean of some runs, the half width of its 95 % interval, and that of the interval for one more run.

    The half widths are NaN for a single run.
    """

    mean: float
    half: float
    one_run: float

    def holds(self, published: str) -> bool:
        """Whether a number printed with these digits may lie in the interval of the mean.

        Its rounding is allowed for: the interval is widened by half a unit of its last digit. False where there is no
        interval, as for a single run: ask for `half` first.
        """
        return _overlaps(self.mean, self.half, published)

    def holds_run(self, published: str) -> bool:
        """Whether it may lie where a further single run does in 95 % of cases; its rounding is allowed for."""
        return _overlaps(self.mean, self.one_run, published)

    @property
    def sign(self) -> int:
        """-1 or 1 where the interval of the mean lies on that side of 0, otherwise 0."""
        return int(math.copysign(1, self.mean)) if abs(self.mean) > self.half else 0


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and intervals of independent runs, taken to be normally distributed; raises ValueError without values."""
    if not values:
        raise ValueError("no values to take the mean of")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, math.nan, math.nan)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    spread = quantile(count - 1) * deviation
    return Estimate(mean, spread / math.sqrt(count), spread * math.sqrt(1 + 1 / count))


def _overlaps(mean: float, half: float, published: str) -> bool:
    """Whether mean ± half meets the numbers that round to `published`."""
    rounding = 0.5 * 10.0 ** -len(published.partition(".")[2])
    return abs(float(published) - mean) <= half + rounding
