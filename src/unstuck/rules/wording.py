"""Numbers as the messages of rules have them."""

from __future__ import annotations

LONG = 1e6  # from here on a number is told by its power of ten: seven digits and more are counted, not read


def ratio_of(value: float) -> str:
    """Return a ratio to the nearest whole number with its thousands apart, one of a million or more as "7.7e42"."""
    if value < LONG:
        return f"{value:,.0f}"
    digits, _, power = f"{value:.2g}".partition("e")
    return f"{digits}e{int(power)}" if power else digits  # "inf" has no power
