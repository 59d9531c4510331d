"""What several processes that train one network showed at the steps that they merged (`unstuck.ranks`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unstuck.trace import Kind, Site, Trace

LACKING = "several processes that train together and are all watched"


def place_of(trace: Trace) -> Site | None:
    """Return the backward call that the numbers of single ranks are kept at, or None."""
    return next((site for site in trace.of_kind(Kind.BACKWARD) if trace.vectors(site, "rank_loss")), None)


def lacking(trace: Trace, merges: float = 1) -> str | None:
    """Return what a rule about ranks lacks where fewer steps were merged, or None."""
    place = place_of(trace)
    if place is None:
        return LACKING
    seen = len(trace.vectors(place, "rank_loss"))
    return None if seen >= merges else f"{LACKING}, at {merges:g} sampled steps"


def of_ranks(trace: Trace, name: str) -> tuple[list[int], npt.NDArray[np.float64]]:
    """Return the merged steps and, float64 of shape (steps, ranks), what each rank brought."""
    place = place_of(trace)
    entries = [] if place is None else trace.vectors(place, name)
    return [step for step, _ in entries], np.array([values for _, values in entries])


def size_at(trace: Trace, step: int) -> int:
    """Return of how many ranks the numbers of a step are."""
    place = place_of(trace)
    losses = None if place is None else trace.vector(place, "rank_loss", step)
    return 1 if losses is None else len(losses)


def trained_together(trace: Trace) -> bool:
    """Tell whether the ranks train one network: DDP or FSDP holds it, or their gradients were the same."""
    place = place_of(trace)
    if place is None:
        return False
    return any(value == 1.0 for name in ("data_parallel", "gradients_equal") for _, value in trace.scalars(place, name))


def named(ranks: Sequence[int]) -> str:
    """Return ranks in words, up to four of them.

    >>> named([1]), named([0, 3]), named(range(9))
    ('rank 1', 'ranks 0 and 3', 'ranks 0, 1, 2, 3 and 5 more')
    """
    shown = [str(rank) for rank in ranks[:4]]
    if len(shown) == 1:
        return f"rank {shown[0]}"
    last = f"{len(ranks) - 4} more" if len(ranks) > 4 else shown.pop()
    return f"ranks {', '.join(shown)} and {last}"
