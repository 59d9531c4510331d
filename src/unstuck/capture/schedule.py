"""Which steps to sample."""

from __future__ import annotations

FIRST_STEPS = 10  # steps 0 … 9 are always sampled: most faults of initialisation show there
GROWTH = 20  # the gap between samples is 1/20 of the steps so far: about 13 samples for each doubling


class Schedule:
    """Samples steps 0 … 9, then ever more sparsely; `every=N` samples each N-th step instead."""

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every
        self._next = 0

    def is_sampled(self, step: int) -> bool:
        """Tell whether `step` is to be sampled; ask for steps in rising order, each at most once or repeatedly."""
        if self.every is not None:
            return step % self.every == 0 or step < FIRST_STEPS
        if step < FIRST_STEPS:
            return True
        while self._next < step:
            self._next = max(FIRST_STEPS, self._next + max(1, self._next // GROWTH))
        return step == self._next
