"""What watching costs, measured step by step, against what it may cost.

Every duration is handed in, so that nothing here reads a clock. The cost of a sampled step is the time spent in our own
code and, beyond it, what the step took longer than a plain one (a function mode makes every torch call slower): the
median over the recent samples, since a single step may be slow for reasons of its own.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

from unstuck.capture.compiled import uncompiled
from unstuck.trace import Watching

UNWATCHED_SECONDS = 9.5e-6  # added to a step of a small network that is not sampled: `benchmarks/off_sample.py`
WITH_OPTIMIZER_SECONDS = 15e-6  # where an optimizer's step tells of its end
RECENT_STEPS = 32  # plain steps (or stretches of them) whose median is the step time: a power of two
RECENT_SAMPLES = 9  # sampled steps whose median is the cost of the next one
ENOUGH_PLAIN = 4  # plain steps before sampled ones are compared with them
AIM = 0.95  # of the budget: room for what the measurement misses
CAPACITY = 2.0  # samples' worth of credit that may pile up: after a pause there is no burst of samples


class Ledger:
    """Keeps the credit: the share of the training time so far that may be spent, minus what has been.

    Credit that nobody uses is lost beyond two samples' worth; debt is not forgiven. `price` is what the next sample is
    going to cost, infinite until one could be compared with plain steps.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.credit = 0.0
        self._rate = AIM * budget  # of the training time
        self.price = math.inf
        self.counting_seconds = UNWATCHED_SECONDS  # what a step costs that is not sampled
        self._most = math.inf  # credit that is kept
        self._training = 0.0
        self._spent = 0.0
        self._unwatched = 0.0
        self._plain_steps = 0
        self._sampled = 0
        self._guaranteed = 0
        self._guaranteed_seconds = 0.0
        self._stretches = 0  # of plain steps, each entered at once
        self._latest = 0.0  # duration of a plain step
        self._recent = [0.0] * RECENT_STEPS
        self._own: deque[float] = deque(maxlen=RECENT_SAMPLES)
        self._beyond: deque[float] = deque(maxlen=RECENT_SAMPLES)  # what samples took beyond a plain step and our code
        self._merges: deque[float] = deque(maxlen=RECENT_SAMPLES)  # seconds
        self.merges, self.merging_seconds = 0, 0.0
        self.exchanged: dict[str, Any] = {}  # what else `Watching` tells of merging, by name
        self._uncompared = 0  # samples before the first that could be compared with plain steps
        self._uncompared_guaranteed = 0

    @uncompiled
    def plain(self, seconds: float, own: float = 0.0, steps: int = 1) -> None:
        """Enter steps that were not sampled: what they took, and how much of that our code did beyond counting them."""
        self._latest = self._recent[self._stretches & (RECENT_STEPS - 1)] = seconds / steps
        self._stretches += 1
        self._plain_steps += steps
        own += steps * self.counting_seconds
        seconds -= own
        self._unwatched += own
        self._training += seconds
        credit = self.credit + self._rate * seconds - own
        self.credit = credit if credit < self._most else self._most

    def sample(self, seconds: float, own: float, *, guaranteed: bool) -> None:
        """Enter a sampled step: how long it took, and how much of that was spent in our own code."""
        plain = self.step_seconds
        self._own.append(own)
        if plain is not None:
            self._beyond.append(max(0.0, seconds - plain - own))
        beyond = median(self._beyond) if self._beyond else 0.0
        cost = own + beyond
        arrears = 0.0
        if not self._beyond:
            self._uncompared += 1
            self._uncompared_guaranteed += guaranteed
        elif self._uncompared:  # now it is known what the earlier ones cost beyond our own code
            arrears = self._uncompared * beyond
            self._guaranteed_seconds += self._uncompared_guaranteed * beyond
            self._uncompared = self._uncompared_guaranteed = 0
        self._sampled += 1
        if guaranteed:
            self._guaranteed += 1
            self._guaranteed_seconds += cost
        training = max(0.0, seconds - cost)
        self._training = max(0.0, self._training + training - arrears)
        self._spent += cost + arrears
        if self._beyond:  # a mode may cost more than our own code: before that is known, no sample is affordable
            self.price = median(self._own) + beyond
            self._most = CAPACITY * self.price
        self.credit = min(self._most, self.credit + self._rate * (training - arrears) - cost - arrears)

    def merging(self, seconds: float) -> None:
        """Enter what it took to merge the sample entered last with those of other processes."""
        self._merges.append(seconds)
        self.merges += 1
        self.merging_seconds += seconds
        self._spent += seconds
        self.credit -= seconds
        self.price += median(self._merges)
        self._most = CAPACITY * self.price

    def steps_until(self, credit: float) -> float:
        """Return in how many steps, if they go on as the latest, there will be so much credit; infinite if never."""
        gain = self._rate * (self._latest - self.counting_seconds) - self.counting_seconds
        return (credit - self.credit) / gain if gain > 0 else math.inf

    @property
    def step_seconds(self) -> float | None:
        """What a step takes without us, median of the recent unsampled ones; None while they are too few."""
        if self._stretches < ENOUGH_PLAIN:
            return None
        return max(0.0, median(self._recent[: self._stretches]) - self.counting_seconds)

    def watching(self, *, budget: float | None, loading: float, pending: float = 0.0) -> Watching:
        """Return what watching has cost, `pending` seconds of our own code since the last step included."""
        return Watching(
            seconds=self._spent + self._unwatched + pending,
            training_seconds=self._training,
            loading_seconds=loading,
            steps=self._plain_steps + self._sampled,
            sampled=self._sampled,
            guaranteed=self._guaranteed,
            guaranteed_seconds=self._guaranteed_seconds,
            unwatched_seconds=self._unwatched,
            sample_seconds=median(self._own) + median(self._beyond or [0.0]) if self._own else 0.0,
            step_seconds=self.step_seconds or 0.0,
            budget=budget,
            merges=self.merges,
            merging_seconds=self.merging_seconds,
            **self.exchanged,
        )
