"""Watching across the ranks of torch.distributed: one report of what all processes of a training see together.

1. Each rank watches itself as a single process does. When a sampled step is complete, and before anything reads its
   numbers, the ranks exchange them once (`exchange.py`, called from `Session`).
2. A rank's numbers are a `Part` (`part.py`): the rows of its table under names of sites that are the same on all ranks
   (`names.py`), its losses, one short record of the rank itself, and now and then fingerprints of its parameters.
3. Parts merge exactly (`rows.py`): counts, histograms and units by +, extremes by min and max; so a unit is dead only
   where it is dead on every rank. Replicated parameters are one tensor, not many: the lowest rank's row stands, and
   whether the others equal it; the shards of a DTensor add up, each counted once (`shards.py`).
4. Parts travel up a tree of fan-out 8 to rank 0 and its answer down again (`tree.py`): each rank sends its part once,
   so that the bytes are linear in sites and none receives more than 7 parts a level, whatever the number of ranks.
5. The tree is made of gloo groups of its own, which torch's registry does not know: no collective, group name or
   sequence number of the program is touched, and accelerators are not either.
6. The answer names the next step to sample, so that all follow rank 0's schedule.
7. Rank 0 puts the merged numbers in the place of its own and writes down what single ranks showed, for the rules of
   group R; the other ranks keep their own numbers and say nothing.
8. Nobody waits longer than a few seconds: `tree.LIMIT` says how long and why. A rank that dies, hangs, leaves early or
   cannot be reached ends the merging for all; then each rank is watched by itself, which rank 0 says once.
9. A single process never gets here: the session asks torch whether there are others, at sampled steps alone.
10. Output gradients are those of each rank's own loss; what only probes know (`Trace.scalar`) is rank 0's own; sites
    that rank 0 has not (pipelines) are left out, which it says, but for the loss; with tensor parallel layers nothing
    is told of single units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from unstuck.capture.wrappers import several_processes
from unstuck.ranks.launch import own_rank

if TYPE_CHECKING:
    from unstuck.capture.session import Session
    from unstuck.ranks.exchange import Exchange

__all__ = ["Others", "join", "own_rank"]


def join(session: Session) -> None:
    """Have a session merge its sampled steps with those of other ranks, from the first time that there are any."""
    session.others = Others(session)


class Others:
    """The other ranks, as a session sees them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._exchange: Exchange | None = None
        self._rank = own_rank()

    @property
    def first(self) -> bool:
        """Whether this process is rank 0, or trains alone; where it has trained, by what torch said then."""
        if several_processes():
            self._rank = torch.distributed.get_rank()
        return self._rank == 0

    @property
    def met(self) -> bool:
        """Whether there were others at a sampled step; a program may leave its process group before it ends."""
        return self._exchange is not None

    def complete(self, step: int) -> bool:
        """Merge a sampled step that is complete; tells whether that was done."""
        if self._exchange is None:
            if not several_processes():
                self._rank = 0
                return False
            self._rank = torch.distributed.get_rank()
            from unstuck.ranks.exchange import Exchange

            self._exchange = Exchange(self._session)
        return self._exchange.complete(step)

    def ending(self, wanted: bool) -> bool:
        """Tell whether the training is to end now, on all ranks: rank 0 had `wanted` it before the last merge.

        One that ended by itself would leave the others in a collective. Without others it is what is wanted; once some
        are lost, no more.
        """
        return wanted and not several_processes() if self._exchange is None else self._exchange.ending(wanted)

    def leave(self) -> None:
        """Tell the other ranks that this one merges no more, without waiting for them."""
        if self._exchange is not None:
            self._exchange.leave()
