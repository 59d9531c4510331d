"""Which steps are sampled, by a simulated clock: what a step takes and what a sample adds are given."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unstuck.capture.ledger import UNWATCHED_SECONDS
from unstuck.capture.schedule import FIRST_STEPS, LEAST_GAP, Schedule
from unstuck.config import DEFAULT_OVERHEAD

GUARANTEED = [*range(10), 10, 12, 14, 17, 20, 24, 28, 34, 40, 48, 57, 67, 80, 95, 113, 135, 160, 190, 226, 269, 320]
STEP = 0.01  # seconds


@dataclass
class Simulation:
    """A run whose durations are known: `spent` and `training` are the truth, not what the ledger makes of it."""

    schedule: Schedule
    spent: float = 0.0
    training: float = 0.0
    guaranteed: float = 0.0
    samples: list[int] = field(default_factory=list)
    step: int = 0
    worst: float = 0.0  # most that was spent beyond budget and guaranteed samples

    def run(self, steps, plain, cost, pauses=(), mode=0.5):
        """Make steps of `plain` seconds; a sample adds `cost`, a share `mode` of it outside of our own code."""
        schedule, ledger, grid = self.schedule, self.schedule.ledger, set(grid_until(self.step + steps))
        for step in range(self.step, self.step + steps):
            seconds = plain + (60 * plain if step in pauses else 0.0)
            self.training += seconds
            if schedule.is_sampled(step):
                self.samples.append(step)
                self.spent += cost
                self.guaranteed += cost if step in grid else 0.0
                schedule.sampled(seconds + cost, (1 - mode) * cost)
                self.worst = max(self.worst, self.spent - ledger.budget * self.training - self.guaranteed)
            else:
                self.spent += UNWATCHED_SECONDS
                ledger.plain(seconds + UNWATCHED_SECONDS)
        self.step += steps
        return self

    @property
    def share(self):
        return self.spent / self.training


def grid_until(steps):
    later = (round(10 * 2 ** (quarter / 4)) for quarter in itertools.count())
    return [*range(min(steps, 10)), *itertools.takewhile(lambda step: step < steps, later)]


def simulate(steps, plain=STEP, cost=STEP, overhead=DEFAULT_OVERHEAD, **more):
    return Simulation(Schedule(overhead=overhead)).run(steps, plain, cost, **more)


class TestGuaranteed:
    def test_the_first_ten_and_four_a_doubling(self):
        assert simulate(321, cost=1e6 * STEP).samples == GUARANTEED == grid_until(321)

    def test_without_any_durations_known(self):
        schedule = Schedule()
        assert [step for step in range(321) if schedule.is_sampled(step)] == GUARANTEED

    def test_a_grid_step_that_was_never_asked_for_is_made_up_for(self):
        schedule = Schedule()
        assert [step for step in [*range(12), 13, 15, 16, 17, 18] if schedule.is_sampled(step)] == [
            *range(11),
            13,
            15,
            17,
        ]

    def test_they_vanish_against_the_budget_in_a_long_run(self):
        """Four a doubling: 68 of 200,000 steps."""
        assert len(grid_until(200_000)) == 68


class TestBudget:
    @given(
        cost=st.floats(0.03, 30),
        overhead=st.sampled_from([0.001, 0.01, 0.05, 0.3]),
        change=st.sampled_from([0.1, 1.0, 10.0]),
        cost_changes=st.booleans(),
        pauses=st.sets(st.integers(0, 5_999), max_size=12),
        mode=st.floats(0, 1),
    )
    @example(cost=30.0, overhead=0.3, change=0.1, cost_changes=False, pauses=set(), mode=1.0)
    @example(cost=0.03, overhead=0.001, change=10.0, cost_changes=True, pauses={0, 9, 10}, mode=0.0)
    def test_never_more_than_the_budget_and_the_guaranteed_samples(
        self, cost, overhead, change, cost_changes, pauses, mode
    ):
        """At all times; a sample is paid before it is known what it costs, so that one may come too many."""
        after = cost * STEP * (change if cost_changes else 1)
        made = simulate(3_000, STEP, cost * STEP, overhead, pauses=pauses, mode=mode)
        made.run(3_000, STEP * change, after, pauses=pauses, mode=mode)
        assert made.samples[:FIRST_STEPS] == list(range(FIRST_STEPS))
        assert set(grid_until(6_000)) <= set(made.samples)
        assert made.worst <= 1.01 * max(after, cost * STEP) + 6_000 * UNWATCHED_SECONDS
        assert made.spent <= overhead * made.training + made.guaranteed + 1.01 * after + 6_000 * UNWATCHED_SECONDS

    @pytest.mark.parametrize("cost", [0.03, 0.3, 1.0, 3.0])
    @pytest.mark.parametrize("change", [0.1, 1.0, 10.0])
    def test_of_a_long_run_all_samples_together_keep_it(self, cost, change):
        made = simulate(50_000, STEP, cost * STEP).run(100_000, STEP * change, cost * STEP * change)
        assert made.share <= DEFAULT_OVERHEAD

    @pytest.mark.parametrize("cost", [0.6, 3.0, 30.0])
    def test_a_long_run_uses_it(self, cost):
        made = simulate(400_000, STEP, cost * STEP)
        assert 0.5 * DEFAULT_OVERHEAD < made.share <= DEFAULT_OVERHEAD

    def test_where_samples_are_cheap_the_gap_decides(self):
        made = simulate(50_000, STEP, 0.03 * STEP)
        grid = grid_until(50_000)
        late = np.array([b - a for a, b in itertools.pairwise(made.samples) if b > 10_000 and b not in grid])
        assert late.min() >= LEAST_GAP
        assert late.max() <= 2 * LEAST_GAP + 1
        assert late.mean() == pytest.approx(1.5 * LEAST_GAP, rel=0.05)

    @pytest.mark.slow
    def test_ten_million_steps(self):
        made = simulate(10_000_000, STEP, 3 * STEP)
        assert 0.9 * DEFAULT_OVERHEAD < made.share <= DEFAULT_OVERHEAD

    def test_steps_too_short_to_be_counted_leave_the_guaranteed_samples(self):
        made = simulate(100_000, plain=50e-6, cost=500e-6)
        assert made.samples == grid_until(100_000)

    def test_the_whole_of_the_time_as_a_budget(self):
        made = simulate(60_000, STEP, 100 * STEP, overhead=1.0)
        assert 0.9 < made.share <= 1.0


class TestChanges:
    def test_the_price_follows_the_cost(self):
        made = simulate(20_000, STEP, STEP)
        before = len(made.samples)
        made.run(60_000, STEP, 10 * STEP)
        assert made.share <= DEFAULT_OVERHEAD
        assert len(made.samples) - before < 60_000 / 900

    @pytest.mark.parametrize("pause", [2_000, 20_000])
    def test_no_burst_after_a_pause(self, pause):
        """An evaluation as long as a thousand steps earns no more than two samples."""
        made = simulate(pause, STEP, STEP)
        made.schedule.ledger.plain(1_000 * STEP)
        before = len(made.samples)
        made.run(300, STEP, STEP)
        assert len(made.samples) - before <= 6

    def test_debt_is_paid_back(self):
        made = simulate(1_000, STEP, 10 * STEP)
        assert made.samples == grid_until(1_000)
        assert made.share > DEFAULT_OVERHEAD


class TestSpread:
    @pytest.mark.parametrize("cost", [0.05, 0.25, 1.0, 4.0])
    def test_denser_early_than_late(self, cost):
        made = simulate(40_000, STEP, cost * STEP, overhead=0.05)
        per_step = [
            len([s for s in made.samples if a <= s < b]) / (b - a) for a, b in [(0, 10), (10, 160), (160, 40_000)]
        ]
        assert per_step == sorted(per_step, reverse=True)
        assert per_step[0] == 1.0

    @pytest.mark.parametrize("cost", [0.05, 0.5, 1.0, 2.0], ids=["the gap decides", "both", "credit", "more credit"])
    def test_no_phase_of_an_epoch_is_preferred(self, cost):
        """Expected per phase: samples / period. By chance alone its spread is that of a Poisson number."""
        overhead = 0.02
        made = simulate(1_000_000, STEP, cost * STEP, overhead)
        later = np.array([step for step in made.samples if step > 1_000])
        gap = int(np.median(np.diff(later)))
        for period in [*range(2, 1_001), *(k * gap for k in (1, 2, 3))]:
            hits = np.bincount(later % period, minlength=period)
            expected = len(later) / period
            assert np.square(hits - expected).sum() / expected < period + 6 * (2 * period) ** 0.5, (period, gap)
            assert hits.max() < expected + 6 * expected**0.5 + 3

    def test_the_same_steps_each_time(self):
        assert simulate(5_000, cost=2 * STEP).samples == simulate(5_000, cost=2 * STEP).samples


class TestWanted:
    @pytest.mark.parametrize("every", [None, 1_000])
    def test_a_step_that_is_wanted_is_sampled_once(self, every):
        schedule = Schedule(every)
        seen = [step for step in range(500) if schedule.is_sampled(step)]
        schedule.want(503)
        assert schedule.idle_until <= 503
        late = [step for step in range(500, 506) if schedule.is_sampled(step)]
        assert late == [503]
        assert 499 not in seen
        assert schedule.is_sampled(503)  # the answer stands

    @pytest.mark.parametrize("every", [None, 1_000])
    def test_several_at_once(self, every):
        schedule = Schedule(every)
        for step in (503, 504, 507):
            schedule.want(step)
        sampled = []
        for step in range(500, 510):
            if step >= schedule.idle_until and schedule.is_sampled(step):
                sampled.append(step)
        assert sampled[-3:] == [503, 504, 507]

    def test_it_moves_no_guaranteed_sample(self):
        one, other = Schedule(), Schedule()
        other.want(15)
        steps = [[step for step in range(100) if schedule.is_sampled(step)] for schedule in (one, other)]
        assert sorted({*steps[0], 15}) == steps[1]


class TestBegunAgain:
    def test_guaranteed_samples_come_as_from_the_first_step_on(self):
        plain, other = Schedule(), Schedule()
        once = [step for step in range(200) if plain.is_sampled(step)]
        [other.is_sampled(step) for step in range(300)]
        other.begin_again(300)
        again = [step - 300 for step in range(300, 500) if other.is_sampled(step)]
        assert set(once) <= set(again)

    def test_with_a_fixed_distance_the_first_ten_too(self):
        schedule = Schedule(every=50)
        [schedule.is_sampled(step) for step in range(120)]
        schedule.begin_again(123)
        asked = [step for step in range(120, 210) if step >= schedule.idle_until and schedule.is_sampled(step)]
        assert asked == [*range(123, 133), 150, 200]


class TestEvery:
    def test_overrides_the_budget(self):
        made = Simulation(Schedule(every=50)).run(1_001, STEP, 100 * STEP)
        assert made.samples == [*range(FIRST_STEPS), *range(50, 1_001, 50)]

    def test_every_step(self):
        assert Simulation(Schedule(every=1)).run(100, STEP, STEP).samples == list(range(100))

    @pytest.mark.parametrize("overhead", [1e-6, 1.0])
    def test_whatever_the_budget_is(self, overhead):
        made = Simulation(Schedule(7, overhead)).run(100, STEP, STEP)
        assert made.samples == [*range(FIRST_STEPS), *range(14, 100, 7)]

    def test_must_be_positive(self):
        with pytest.raises(ValueError, match="every must be at least 1, got 0"):
            Schedule(every=0)


@pytest.mark.parametrize("cost", [0.1, 2.0, 20.0])
def test_steps_before_idle_until_need_not_be_asked_for(cost):
    """Nor told one by one: stretches of plain steps are entered at once."""
    schedule, samples, begun = Schedule(), [], 0
    asked = 0
    for step in range(20_000):
        if step < schedule.idle_until:
            continue
        if step > begun:
            schedule.ledger.plain((step - begun) * (STEP + UNWATCHED_SECONDS), steps=step - begun)
        begun, asked = step, asked + 1
        if schedule.is_sampled(step):
            samples.append(step)
            schedule.sampled(STEP * (1 + cost), cost * STEP / 2)
            begun = step + 1
    assert samples == pytest.approx(simulate(20_000, STEP, cost * STEP).samples, abs=2)
    assert asked < 2_000


@pytest.mark.parametrize("overhead", [0, -0.1, 1.1, float("nan"), float("inf")])
def test_the_budget_must_be_a_share(overhead):
    with pytest.raises(ValueError, match=r"overhead must be more than 0 and at most 1, got"):
        Schedule(overhead=overhead)


@pytest.mark.parametrize("every", [None, 3])
def test_asking_again_changes_nothing(every):
    asked_thrice, asked_once = Schedule(every, 0.1), Schedule(every, 0.1)
    for step in range(2_000):
        answers = {asked_thrice.is_sampled(step) for _ in range(3)}
        asked_thrice.ledger.plain(STEP)
        assert answers == {asked_thrice.is_sampled(step)} == {asked_once.is_sampled(step)}
        for schedule in (asked_thrice, asked_once):
            if answers == {True}:
                schedule.sampled(2 * STEP, STEP)
        asked_once.ledger.plain(STEP)


class TestTogether:
    """Several processes that follow the first one's schedule."""

    def test_the_next_sample_is_the_next_step_at_first_and_then_the_guaranteed_one_where_nothing_is_known(self):
        schedule = Schedule()
        following = []
        for step in range(40):
            if schedule.is_sampled(step):
                following.append(schedule.next_common)
                schedule.agree(following[-1])
        assert following == [*range(1, 11), 12, 14, 17, 20, 24, 28, 34, 40]

    @pytest.mark.parametrize("every", [None, 7])
    def test_another_one_that_is_told_samples_the_same(self, every):
        first, second = Schedule(every, 0.5), Schedule(every, 1e-6)
        steps = [[], []]
        for step in range(500):
            for seen, schedule in zip(steps, (first, second), strict=True):
                if schedule.is_sampled(step):
                    assert schedule.is_common(step)
                    seen.append(step)
                    schedule.sampled(2e-3, 1e-3)
                else:
                    schedule.ledger.plain(1e-3)
            if steps[0][-1:] == [step] and every is None:
                following = first.next_common
                assert following > step
                first.agree(following)
                second.agree(following)
        assert steps[0] == steps[1]
        assert every or len(steps[0]) > len(grid_until(500)), "some beside the guaranteed ones"

    def test_what_one_process_wants_for_itself_is_sampled_and_not_common(self):
        schedule = Schedule()
        for step in range(10):
            schedule.is_sampled(step)
        schedule.agree(20)
        schedule.want(13)
        assert [step for step in range(10, 21) if schedule.is_sampled(step)] == [13, 20]
        assert (schedule.is_common(13), schedule.is_common(20)) == (False, True)

    def test_alone_again(self):
        schedule = Schedule()
        for step in range(10):
            schedule.is_sampled(step)
        schedule.agree(1000)
        schedule.alone()
        assert [step for step in range(10, 30) if schedule.is_sampled(step)] == [10, 12, 14, 17, 20, 24, 28]
