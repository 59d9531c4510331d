"""Which steps to sample: some always, the others as far as the budget goes.

Always: steps 0 … 9, then four for each doubling (10, 12, 14, 17, 20, 24, 28, 34, 40, …). Their number grows with the
logarithm of the run's length, so that their cost vanishes against any budget in a long run, and rules have something to
look at even where a sample costs a hundred steps. All others only when the ledger has the credit, at a distance that
grows with the run until it is that of a usual log.
"""

from __future__ import annotations

import math

from unstuck.capture.compiled import uncompiled
from unstuck.capture.ledger import Ledger
from unstuck.config import DEFAULT_OVERHEAD
from unstuck.trace import Watching

FIRST_STEPS = 10  # steps 0 … 9 are always sampled: most faults of initialisation show there
PER_DOUBLING = 4  # of the guaranteed samples after those
GROWTH = 32  # the least gap is 1/32 of the steps so far, with jitter 1/21: about 15 samples for each doubling
LEAST_GAP = 32  # and no more than this, with jitter 48: Lightning's `log_every_n_steps` is 50
MOST_IDLE = 64  # steps before the time is taken and the credit looked at again
_MASK = (1 << 64) - 1


class Schedule:
    """Decides for each step whether it is sampled; `every=N` samples each N-th step (and 0 … 9) instead.

    `overhead` is the share of the training time that sampling may add; `ledger` has to be told how long steps take.
    Raises ValueError for values that cannot be used.
    """

    def __init__(self, every: int | None = None, overhead: float = DEFAULT_OVERHEAD) -> None:
        if every is not None and every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        if not 0 < overhead <= 1:
            raise ValueError(f"overhead must be more than 0 and at most 1, got {overhead}")
        self.every = every
        self.ledger = Ledger(overhead)
        self._decided = -1  # the latest step that was asked for
        self._last = -1  # the latest step that is sampled
        self._samples = 0
        self._doublings = 0  # quarters of doublings since step 10
        self._grid = 0  # the next guaranteed sample
        self._origin = 0  # the step with which training began, or was begun again
        self._earliest = 0  # for any other
        self.idle_until = 0  # no step before this one is going to be sampled; those need not be asked for
        self._wanted: set[int] = set()  # steps to come that somebody has asked for
        self._wait = 1.0  # that many samples' worth of credit are needed: 1 … 2
        self._guaranteed = False
        self._common: list[int] = []  # the latest steps that several processes have agreed on

    @uncompiled
    def is_sampled(self, step: int) -> bool:
        """Tell whether `step` is to be sampled.

        Ask for steps in rising order. The first answer for a step stands; of earlier steps only the latest sampled one
        is remembered (all, with `every`).
        """
        if self.every is not None:
            first = step - self._origin < FIRST_STEPS
            following = step + 1 if first else (step // self.every + 1) * self.every
            self.idle_until = min(following, step + MOST_IDLE, *(wanted for wanted in self._wanted if wanted > step))
            return step % self.every == 0 or first or step in self._wanted
        if step <= self._decided or step < self.idle_until:
            return step == self._last
        self._decided = step
        if self._common and step not in self._common and step not in self._wanted:
            self.idle_until = self._idle(step)
            return False
        if self._common or step >= self._grid or step in self._wanted:
            self._guaranteed = step >= self._grid or step in self._wanted
        elif step >= self._earliest and self.ledger.credit >= self._wait * self.ledger.price:
            self._guaranteed = False
        else:
            self._rest(step)
            return False
        self._sample(step)
        return True

    def _idle(self, step: int) -> int:
        """Return until when no step is sampled, of those agreed on and those wanted."""
        return min(step + MOST_IDLE, *(known for known in (*self._common, *self._wanted, 1 << 62) if known > step))

    @property
    def next_common(self) -> int:
        """The next step after those decided on, as far as can be told now, for several processes to agree on."""
        following = self._decided + 1
        wait = self.ledger.steps_until(self._wait * self.ledger.price)
        if not wait < self._grid:  # also where it is infinite or not known
            return max(following, self._grid)
        return max(following, min(self._grid, max(self._earliest, following + math.ceil(max(0.0, wait)))))

    def agree(self, step: int) -> None:
        """Sample that step next, and before it only what this process alone wants: others do the same."""
        earlier = self._common or [self._last]  # it may have been asked for before the first agreement
        self._common = [*earlier[-3:], step]
        self.idle_until = min(self.idle_until, step)

    def alone(self) -> None:
        """Go by this process's own credit again."""
        self._common = []
        self.idle_until = 0

    def is_common(self, step: int) -> bool:
        """Tell whether a step that was sampled is sampled by all processes, as far as this one knows."""
        if self.every is not None:
            return step % self.every == 0 or step - self._origin < FIRST_STEPS
        return step in self._common or (not self._common and self._guaranteed)

    def want(self, step: int) -> None:
        """Have a step sampled that has not been asked for yet, whatever it costs."""
        self._wanted.add(step)
        self.idle_until = min(self.idle_until, step)

    def begin_again(self, step: int) -> None:
        """Let training begin anew with a step that has not been asked for yet: guaranteed samples as from step 0 on."""
        self._origin = self._grid = step
        self._doublings = 0
        self.idle_until = min(self.idle_until, step)

    def _rest(self, step: int) -> None:
        """Work out how long no sample can come: until the gap is past and, as far as can be told, the credit there."""
        wait = min(MOST_IDLE, self.ledger.steps_until(self._wait * self.ledger.price))
        self._wanted = {wanted for wanted in self._wanted if wanted > step}
        free = max(self._earliest, step + 1 + int(max(0.0, wait)))
        self.idle_until = min(self._grid, free, *self._wanted)

    def _sample(self, step: int) -> None:
        """Take `step` as a sample, and draw when the next ones may come.

        Each waits for one to two samples' worth of credit: within every stretch of the run that pays for one sample it
        falls on a place drawn anew, so that over a run no phase of an epoch, whatever its length, is preferred. The
        gap is drawn in the same way, in case it is what decides.
        """
        self._last = step
        self._samples += 1
        while self._grid <= step:
            first = self._grid - self._origin < FIRST_STEPS
            self._grid = self._grid + 1 if first else self._next_on_grid()
        self._wait = 1.0 + _drawn(self._samples)
        self._earliest = step + int(min(max(1, step // GROWTH), LEAST_GAP) * self._wait)

    def _next_on_grid(self) -> int:
        self._doublings += 1
        return self._origin + round(FIRST_STEPS * 2 ** (self._doublings / PER_DOUBLING))

    def sampled(self, seconds: float, own: float) -> None:
        """Enter the duration of the step last asked for, which was sampled: how much of it was our own code's."""
        self.ledger.sample(seconds, own, guaranteed=self._guaranteed)

    def watching(self, loading: float, pending: float = 0.0) -> Watching:
        """Return what watching has cost; see `Ledger.watching`."""
        budget = None if self.every is not None else self.ledger.budget
        return self.ledger.watching(budget=budget, loading=loading, pending=pending)


def _drawn(count: int) -> float:
    """Return a number in [0, 1) for each count: splitmix64 (https://prng.di.unimi.it/splitmix64.c), nobody's generator.

    Not a low-discrepancy sequence: the sums of one are all but regular, and a regular cadence beats with an epoch.
    """
    z = (count * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) / 2.0**64
