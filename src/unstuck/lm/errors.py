"""The one exception of this room: a message for the person who typed the command."""

from __future__ import annotations

import math
from collections.abc import Iterable

LARGEST_SEED = 2**63 - 1


class LmError(ValueError):
    """Input that cannot be used. The message is one line: what is wrong, where, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def require_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise LmError unless `value` is one of `choices`; the message lists them."""
    known = list(choices)
    if value not in known:
        raise LmError(f"unknown {name} {value!r}: choose one of {', '.join(known)}")


def require_whole(name: str, value: int, low: int, high: int) -> None:
    """Raise LmError unless `low` <= `value` <= `high`."""
    if not low <= value <= high:
        raise LmError(f"{name} is {value}: give a whole number from {low} to {high}")


def require_positive(name: str, value: float, *, zero: bool = False) -> None:
    """Raise LmError unless `value` is a finite number above 0 (or 0 itself, where `zero` allows it)."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise LmError(f"{name} is {value}: give a number {'of at least 0' if zero else 'above 0'}")
