"""Which steps are sampled."""

import itertools

import pytest

from unstuck.capture.schedule import FIRST_STEPS, Schedule


def sampled(schedule, steps):
    return [step for step in range(steps) if schedule.is_sampled(step)]


def test_first_steps_always():
    assert sampled(Schedule(), FIRST_STEPS) == list(range(FIRST_STEPS))
    assert sampled(Schedule(every=50), 101) == [*range(FIRST_STEPS), 50, 100]


def test_ever_more_sparsely():
    steps = sampled(Schedule(), 20_000)
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    assert gaps == sorted(gaps)
    assert len(steps) < 200
    assert all(gap <= max(1, step / 20) for step, gap in zip(steps, gaps, strict=False))


def test_asking_twice_changes_nothing():
    schedule = Schedule()
    answers = [(schedule.is_sampled(step), schedule.is_sampled(step)) for step in range(500)]
    assert all(a == b for a, b in answers)


def test_every_must_be_positive():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Schedule(every=0)
