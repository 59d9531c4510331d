"""What watching a run cost, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

ENOUGH_STEPS = 1_000  # a shorter run cannot miss its budget; see `Watching.missed`


@dataclass(frozen=True)
class Watching:
    """What watching added to a run, measured; times in seconds.

    `training_seconds` is what the timed `steps` took without us, so that the added time is `seconds` and `share` their
    quotient. Time spent on loading the kernels is apart: it is spent once, however long the run.
    """

    seconds: float = 0.0
    training_seconds: float = 0.0
    loading_seconds: float = 0.0
    steps: int = 0  # whose duration was taken
    sampled: int = 0  # of those
    guaranteed: int = 0  # of those, sampled whatever the budget
    guaranteed_seconds: float = 0.0  # what these cost
    unwatched_seconds: float = 0.0  # spent on counting the steps that were not sampled
    sample_seconds: float = 0.0  # what a sampled step costs, median of the recent ones
    step_seconds: float = 0.0  # what an unsampled step takes, median of the recent ones; 0 when there were none
    budget: float | None = None  # allowed share of the training time; None when each N-th step was asked for
    ranks: int = 1  # processes whose numbers were merged
    merges: int = 0  # of sampled steps
    merging_seconds: float = 0.0  # spent on them, waiting for other ranks included; a part of `seconds`
    merged_bytes: int = 0  # that this process sent and received for them
    alone_from: int | None = None  # the step from which on it is watched by itself, where another rank was lost

    @property
    def share(self) -> float | None:
        """The added time as a share of the training time; None before any step was timed."""
        return self.seconds / self.training_seconds if self.training_seconds > 0 else None

    @property
    def missed(self) -> bool:
        """Whether watching cost more than its budget.

        Not said of a run of fewer than 1,000 steps: its guaranteed samples alone are more than 1 in 27 steps, which a
        budget of 1 % only bears where a sampled step costs less than a quarter of a plain one; nothing that a person
        could set would change that, and what it cost is said anyhow.
        """
        share = self.share
        return self.budget is not None and share is not None and self.steps >= ENOUGH_STEPS and share > self.budget
