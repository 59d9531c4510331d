"""What watching cost, in words: one line, and one more when it was more than the budget allows."""

from __future__ import annotations

import math

from unstuck.trace import Watching

ALWAYS_SAMPLED = 10  # steps that `every` samples besides each N-th


def cost_line(cost: Watching, steps: int) -> str | None:
    """Return what watching added to a run of so many steps; None when no step was timed."""
    if cost.share is None:
        return None
    loading = f"; {_seconds(cost.loading_seconds)} to load not counted" if cost.loading_seconds else ""
    training = f"{_seconds(cost.training_seconds)} of training"
    share = f", {percent(cost.share)} of {training}" if cost.share <= 10 else f", more than the {training}"
    merging = f"; {_merging(cost)}" if cost.merges else ""
    sampled = f"{cost.sampled:,} of {steps:,} steps sampled"
    return f"watching cost {_seconds(cost.seconds)}{share} ({sampled}{merging}{loading})"


def budget_warning(cost: Watching) -> str | None:
    """Return what was allowed, why it was missed, and what to do; None when it was kept."""
    if not cost.missed or cost.share is None or cost.budget is None:
        return None
    return f"more than the {percent(cost.budget)} allowed: {_why(cost)}; {_remedy(cost)}"


def _merging(cost: Watching) -> str:
    """Return what it took to merge the numbers of several processes; of this one alone, the bytes."""
    until = "" if cost.alone_from is None else f" until step {cost.alone_from:,}"
    size = f"{cost.merged_bytes / 1e6:,.2g} MB" if cost.merged_bytes < 1e8 else f"{cost.merged_bytes / 1e6:,.0f} MB"
    return f"{cost.ranks:,} ranks merged {cost.merges:,} times{until}, {_seconds(cost.merging_seconds)} and {size}"


def percent(share: float) -> str:
    """Return a share in per cent with two significant digits."""
    return f"{100 * share:,.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _why(cost: Watching) -> str:
    allowed = (cost.budget or 0.0) * cost.training_seconds
    if cost.unwatched_seconds > allowed:
        share = percent(cost.unwatched_seconds / cost.training_seconds)
        return f"steps of {_seconds(cost.step_seconds)} are so short that counting them costs {share} of their time"
    if cost.guaranteed_seconds + cost.unwatched_seconds > allowed:
        ratio = cost.sample_seconds / cost.step_seconds if cost.step_seconds else 0.0
        dear = f"each sampled step costs {ratio:,.2g} × a plain one, and " if ratio else ""
        share = percent(cost.guaranteed_seconds / cost.training_seconds)
        return f"{dear}the {cost.guaranteed} samples that are always taken cost {share}"
    return "steps became shorter, or samples dearer, than they were"


def _remedy(cost: Watching) -> str:
    """Name an overhead that would have been kept, and an interval that keeps this one where there is any."""
    remedies = []
    allow = _round_up(100 * (cost.share or 0.0))
    if allow <= 100:
        remedies.append(f"allow more (--overhead {allow:g}%)")
    spare = (cost.budget or 0.0) * cost.training_seconds - cost.unwatched_seconds
    samples = spare / cost.sample_seconds - ALWAYS_SAMPLED if cost.sample_seconds else 0.0
    if samples >= 1:
        remedies.append(f"sample less (--every {_round_up(cost.steps / samples):.0f})")
    return " or ".join(remedies) or "a run with longer steps is watched more cheaply"


def _round_up(number: float) -> float:
    """Round up to one significant digit."""
    unit = 10.0 ** math.floor(math.log10(number))
    return math.ceil(round(number / unit, 6)) * unit


def _seconds(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    if seconds >= 0.1:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"
    return f"{1e3 * seconds:.2g} ms"
