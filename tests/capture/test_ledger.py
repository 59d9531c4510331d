"""What watching costs, from durations that are given."""

import math

import pytest

from unstuck.capture.ledger import AIM, ENOUGH_PLAIN, RECENT_STEPS, UNWATCHED_SECONDS, Ledger

OFF = UNWATCHED_SECONDS


def ledger(plain=1.0, steps=RECENT_STEPS, budget=0.1):
    made = Ledger(budget)
    for _ in range(steps):
        made.plain(plain + OFF)
    return made


def seconds(made, **more):
    return made.watching(budget=0.1, loading=0.0, **more).seconds


class TestPlainSteps:
    def test_cost_what_counting_costs(self):
        made = ledger(steps=100).watching(budget=0.1, loading=0.0)
        assert made.seconds == made.unwatched_seconds == pytest.approx(100 * OFF)
        assert made.training_seconds == pytest.approx(100)
        assert (made.steps, made.sampled) == (100, 0)

    def test_more_where_an_optimizer_has_to_be_heard(self):
        made = Ledger(0.1)
        made.counting_seconds = 0.25
        made.plain(1.25)
        assert seconds(made) == 0.25
        assert made.watching(budget=0.1, loading=0.0).training_seconds == 1.0

    def test_and_what_our_code_did_beyond_that(self):
        made = Ledger(0.1)
        made.plain(1.0 + 0.25 + OFF, 0.25)
        assert seconds(made) == pytest.approx(0.25 + OFF)
        assert made.watching(budget=0.1, loading=0.0).training_seconds == pytest.approx(1.0)

    def test_the_step_time_is_the_recent_median(self):
        made = Ledger(0.1)
        for duration in [1.0] * 40 + [1000.0] + [3.0] * 17:
            made.plain(duration + OFF)
        assert made.step_seconds == pytest.approx(3.0)

    def test_which_takes_a_few_steps_to_know(self):
        assert ledger(steps=ENOUGH_PLAIN - 1).step_seconds is None
        assert ledger(steps=ENOUGH_PLAIN).step_seconds == pytest.approx(1.0)


class TestSamples:
    def test_cost_our_code_alone_until_there_are_steps_to_compare_with(self):
        made = Ledger(0.1)
        made.sample(2.5, 0.5, guaranteed=True)
        assert seconds(made) == 0.5
        assert made.price == math.inf

    def test_cost_what_the_step_took_beyond_a_plain_one(self):
        made = ledger(steps=32)
        made.sample(1.75, 0.5, guaranteed=False)
        assert seconds(made) == pytest.approx(0.75 + 32 * OFF)
        assert made.price == pytest.approx(0.75)

    def test_never_less_than_our_code(self):
        made = ledger(steps=32)
        made.sample(1.2, 0.5, guaranteed=False)
        assert made.price == pytest.approx(0.5)

    def test_the_first_ones_are_charged_in_arrears(self):
        made = Ledger(0.1)
        for _ in range(10):
            made.sample(1.75, 0.5, guaranteed=True)
        for _ in range(32):
            made.plain(1.0 + OFF)
        made.sample(1.75, 0.5, guaranteed=True)
        cost = made.watching(budget=0.1, loading=0.0)
        assert cost.seconds == pytest.approx(11 * 0.75 + 32 * OFF)
        assert cost.guaranteed_seconds == pytest.approx(11 * 0.75)
        assert cost.training_seconds == pytest.approx(43)
        assert made.credit == pytest.approx(AIM * 0.1 * 43 - cost.seconds)

    def test_a_slow_step_is_not_taken_for_a_dear_sample(self):
        made = ledger(steps=32)
        for k in range(9):
            made.sample(100.0 if k == 5 else 1.5, 0.25, guaranteed=False)
        assert seconds(made) == pytest.approx(9 * 0.5 + 32 * OFF)
        assert made.price == pytest.approx(0.5)

    def test_guaranteed_ones_are_told_apart(self):
        made = ledger(steps=32)
        made.sample(1.5, 0.5, guaranteed=True)
        made.sample(1.5, 0.5, guaranteed=False)
        cost = made.watching(budget=0.1, loading=0.0)
        assert (cost.sampled, cost.guaranteed, cost.guaranteed_seconds) == (2, 1, pytest.approx(0.5))


class TestCredit:
    def test_is_the_rest_of_the_budget(self):
        made = ledger(steps=50)
        made.sample(1.5, 0.5, guaranteed=False)
        made.credit = 0.0
        for _ in range(5):
            made.plain(1.0 + OFF)
        assert made.credit == pytest.approx(5 * AIM * 0.1 - 5 * OFF)

    def test_beyond_two_samples_it_is_lost(self):
        made = ledger()
        made.sample(1.5, 0.5, guaranteed=False)
        made.plain(1e6)
        assert made.credit == pytest.approx(2 * made.price)

    def test_debt_is_not(self):
        made = ledger(steps=4)
        made.sample(101.0, 100.0, guaranteed=True)
        assert made.credit == pytest.approx(AIM * 0.1 * 5 - 100 - 4 * OFF)


def test_the_account_names_what_is_pending_and_what_is_apart():
    cost = ledger(steps=10).watching(budget=0.02, loading=0.4, pending=3.0)
    assert (cost.loading_seconds, cost.budget) == (0.4, 0.02)
    assert cost.seconds == pytest.approx(3.0 + 10 * OFF)


def test_before_any_step_there_is_no_share():
    cost = Ledger(0.1).watching(budget=0.1, loading=0.0)
    assert (cost.seconds, cost.share, cost.missed, cost.sample_seconds, cost.step_seconds) == (0, None, False, 0, 0)
