"""What watching cost, in words."""

from dataclasses import replace

import pytest

from unstuck.report.watching import budget_warning, cost_line, percent
from unstuck.trace import Watching

KEPT = Watching(
    seconds=0.21,
    training_seconds=26.3,
    loading_seconds=0.4,
    steps=20_000,
    sampled=142,
    guaranteed=54,
    guaranteed_seconds=0.06,
    unwatched_seconds=0.09,
    sample_seconds=1e-3,
    step_seconds=1.3e-3,
    budget=0.01,
)


class TestCost:
    def test_what_it_added_and_to_what(self):
        assert cost_line(KEPT, 20_000) == (
            "watching cost 0.21 s, 0.8 % of 26.3 s of training (142 of 20,000 steps sampled; "
            "0.40 s to load not counted)"
        )

    def test_nothing_loaded(self):
        assert cost_line(replace(KEPT, loading_seconds=0.0), 20_000).endswith("(142 of 20,000 steps sampled)")

    def test_what_merging_several_processes_took(self):
        merged = replace(KEPT, ranks=4, merges=141, merging_seconds=0.052, merged_bytes=2_340_000)
        assert "(142 of 20,000 steps sampled; 4 ranks merged 141 times, 52 ms and 2.3 MB; " in cost_line(merged, 20_000)
        until = replace(merged, alone_from=12_345, merged_bytes=234_000_000)
        assert "4 ranks merged 141 times until step 12,345, 52 ms and 234 MB" in cost_line(until, 20_000)

    def test_nothing_timed(self):
        assert cost_line(Watching(), 0) is None

    @pytest.mark.parametrize(
        ("seconds", "training", "said"),
        [
            (0.0021, 0.5, "watching cost 2.1 ms, 0.42 % of 0.50 s of training"),
            (7.25, 7.0, "watching cost 7.2 s, 104 % of 7.0 s of training"),
            (1234.0, 360_000, "watching cost 1,234 s, 0.34 % of 360,000 s of training"),
        ],
    )
    def test_numbers_of_every_size(self, seconds, training, said):
        assert cost_line(replace(KEPT, seconds=seconds, training_seconds=training), 9).startswith(said)


@pytest.mark.parametrize(
    ("share", "said"), [(0.01, "1 %"), (0.0075, "0.75 %"), (0.099, "9.9 %"), (0.16, "16 %"), (30, "3,000 %")]
)
def test_percent(share, said):
    assert percent(share) == said


class TestWarning:
    def test_none_when_the_budget_was_kept(self):
        assert not KEPT.missed
        assert budget_warning(KEPT) is None

    def test_none_when_each_nth_step_was_asked_for(self):
        assert budget_warning(replace(KEPT, seconds=20.0, budget=None)) is None

    def test_none_for_a_run_too_short_for_its_budget(self):
        dear = replace(KEPT, seconds=20.0)
        assert replace(dear, steps=1_000).missed
        assert budget_warning(replace(dear, steps=999)) is None

    def test_the_samples_that_are_always_taken(self):
        cost = replace(KEPT, seconds=0.6, guaranteed_seconds=0.5, sample_seconds=7.8e-3)
        assert budget_warning(cost) == (
            "more than the 1 % allowed: each sampled step costs 6 × a plain one, and the 54 samples that are always "
            "taken cost 1.9 %; allow more (--overhead 3%) or sample less (--every 2000)"
        )

    def test_an_interval_that_would_not_help_is_not_named(self):
        cost = replace(KEPT, seconds=6.0, guaranteed_seconds=5.9, sample_seconds=0.1)
        assert budget_warning(cost).endswith("cost 22 %; allow more (--overhead 30%)")

    def test_steps_too_short_to_be_counted(self):
        cost = replace(KEPT, training_seconds=1.0, unwatched_seconds=0.16, step_seconds=50e-6)
        assert budget_warning(cost) == (
            "more than the 1 % allowed: steps of 0.05 ms are so short that counting them costs 16 % of their time; "
            "allow more (--overhead 30%)"
        )

    def test_a_run_that_changed(self):
        cost = replace(KEPT, seconds=0.3)
        assert budget_warning(cost).startswith(
            "more than the 1 % allowed: steps became shorter, or samples dearer, than they were; "
            "allow more (--overhead 2%"
        )

    def test_more_than_could_be_allowed(self):
        cost = replace(KEPT, seconds=40.0, guaranteed_seconds=39.0, sample_seconds=1.0)
        assert budget_warning(cost).endswith("; a run with longer steps is watched more cheaply")

    @pytest.mark.parametrize("steps", [1_000, 5_000, 100_000])
    def test_the_interval_named_keeps_the_budget(self, steps):
        """Ten samples at the start and each N-th step: no more than 1 % of the steps' time."""
        plain, sample = 1e-3, 0.9e-3
        cost = replace(
            KEPT, steps=steps, training_seconds=steps * plain, seconds=0.02 * steps * plain, unwatched_seconds=0.0,
            guaranteed_seconds=0.015 * steps * plain, sample_seconds=sample, step_seconds=plain,
        )  # fmt: skip
        every = int(budget_warning(cost).partition("--every ")[2].rstrip(")") or 0)
        if steps == 1_000:
            assert not every or (10 + steps / every) * sample <= 0.01 * steps * plain
        else:
            assert (10 + steps / every) * sample <= 0.01 * steps * plain
