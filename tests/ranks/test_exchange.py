"""Ranks together: what they report is what one process sees that has the whole batch; nobody waits for who is gone."""

import math

import numpy as np
import pytest

import unstuck
from unstuck.capture.session import Session
from unstuck.ranks import Others, join, tree
from unstuck.stats.summary import TensorSummary

from . import processes, trainings
from .trainings import STEPS

EXACT = ("count", "nonfinite", "zeros", "outside", "histogram")


def compare(ours, theirs, gradient=1.0):
    """Each number of rank 0 against one process on the concatenated batch; output gradients are `gradient` times."""
    assert set(ours) == set(theirs)
    for key, expected in theirs.items():
        factor = gradient if key.endswith("gradient at output") else 1.0
        got, wanted = TensorSummary.from_json(ours[key]), TensorSummary.from_json(expected)
        if factor == 1.0:
            for name in EXACT:
                np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=f"{key} {name}")
        assert got.count == wanted.count, key
        for name in ("total", "squares", "minimum", "maximum"):
            power = factor**2 if name == "squares" else factor
            expected = getattr(wanted, name) * power
            assert getattr(got, name) == pytest.approx(expected, rel=1e-6, abs=1e-9), (key, name)
        assert (got.units is None) == (wanted.units is None), key
        if wanted.units is not None:
            assert got.units.count == wanted.units.count
            for name in ("zeros", "outside", "nonfinite", "saturated"):
                np.testing.assert_array_equal(getattr(got.units, name), getattr(wanted.units, name), err_msg=key)
            np.testing.assert_allclose(got.units.total, wanted.units.total, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(got.units.squares, wanted.units.squares, rtol=1e-6, atol=1e-9)


def as_one(seen, size, lengths=None, steps=(0, 5, STEPS - 1)):
    """Compare rank 0 with one process."""
    one = trainings.one_process(size, lengths=lengths)
    for step in steps:
        compare(seen["numbers"][str(step)], trainings.numbers(one.session.trace, step), float(size))
    return one


class TestSilent:
    def test_one_process_never_asks_for_others(self):
        run = trainings.one_process(1, steps=3)
        assert run.session.others._exchange is None
        assert run.report().trace.facts.watching.ranks == 1
        assert "ranks" not in str(run.report())

    def test_a_session_without_others(self):
        with Session() as session:
            trainings.train(trainings.make_net(), [trainings.batch(0, 0)], lambda net: None)
        assert session.others is None
        assert session.trace.facts.internal_error is None

    def test_leaving_before_there_was_anything(self):
        session = Session()
        join(session)
        assert isinstance(session.others, Others)
        session.others.leave()
        assert session.others.first

    def test_what_rank_0_keeps_no_other_does(self, tmp_path):
        with unstuck.watch(record=tmp_path / "run.sqlite") as run:
            trainings.train(trainings.make_net(), [trainings.batch(0, 0)], lambda net: None)
            assert (tmp_path / "run.sqlite").exists()
            run.session.others._rank = 1  # as when torch tells it late
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def two():
    return processes.results(trainings.plain, 2, "ddp")


class TestTwoProcesses:
    def test_numbers_are_those_of_one_process(self, two):
        one = as_one(two[0], 2)
        objective = one.session.trace.objective
        assert {int(step): value for step, value in two[0]["objective"].items()} == pytest.approx(objective, rel=1e-6)
        calls = [[call.step, call.value, call.baseline] for call in one.session.trace.loss_calls]
        assert [call for row in two[0]["calls"] for call in row] == pytest.approx([c for row in calls for c in row])

    def test_a_unit_that_lives_on_one_rank_lives(self, two):
        key = next(key for key in two[0]["numbers"]["0"] if "relu" in key and key.endswith("input"))
        together, own = (TensorSummary.from_json(seen["numbers"]["0"][key]) for seen in two)
        assert together.units.saturated.tolist() == [False, True, *[False] * 6]
        assert together.units.count == 2 * own.units.count

    def test_every_step_was_merged_and_what_it_took_is_told(self, two):
        for seen in two:
            assert seen["error"] is None
            assert (seen["ranks"], seen["merges"], seen["alone_from"]) == (2, STEPS, None)
            assert 1_000 < seen["bytes"] / STEPS < 20_000

    def test_single_ranks_are_known_to_rank_0_alone(self, two):
        vectors = two[0]["vectors"]
        for first, second in vectors["rank_loss"]:
            assert math.isfinite(first)
            assert first != second
        for first, second in vectors["rank_data"]:
            assert first != second
        for first, second in vectors["rank_parameters"][:8]:
            assert first == second > 0
        assert vectors["rank_nonfinite_since"] == [[-1.0, -1.0]] * STEPS
        assert two[1]["vectors"]["rank_loss"] == []
        assert all(value == 1.0 for _, value in two[0]["gradients_equal"])
        assert all(value == 0.0 for series in two[0]["differ"].values() for _, value in series)


@pytest.mark.slow
class TestMoreProcesses:
    def test_four_in_a_plain_loop(self):
        seen = processes.results(trainings.plain, 4, "loop")
        as_one(seen[0], 4)
        assert [s["merges"] for s in seen] == [STEPS] * 4

    def test_an_uneven_last_batch(self):
        """Until then the batches are equal, so that the mean of the ranks' losses is that of all."""
        seen = processes.results(trainings.plain, 2, "loop", (16, 5))
        as_one(seen[0], 2, (16, 5), steps=(0, 5))
        last = seen[0]["numbers"][str(STEPS - 1)]
        wanted = trainings.numbers(trainings.one_process(2, lengths=(16, 5)).session.trace, STEPS - 1)
        for key in wanted:
            if key.endswith((" input", ") output")):
                assert last[key]["histogram"] == wanted[key]["histogram"]
                assert last[key]["count"] == wanted[key]["count"]

    def test_values_of_backward_calls_are_those_of_the_losses(self):
        one, _ = processes.results(trainings.accumulated, 2)
        assert one["objectives"] == pytest.approx([value for step, value, _ in one["calls"] if step == 5])
        assert "T006" in one["codes"]

    @pytest.mark.filterwarnings("ignore")
    def test_all_stop_at_the_same_step(self):
        one, two = processes.results(trainings.stopped, 2)
        assert one[0] == two[0] < 60
        assert (one[1], two[1]) == (["R002"], [])

    def test_a_process_group_that_ends_early(self):
        (one, said, code), _ = processes.run(trainings.destroyed, 2)
        assert (one["error"], one["ranks"], one["merges"], said, code) == (None, 2, STEPS + 1, "", 0)
        assert any(text.startswith("each of several processes would mend its own copy") for text in one["withheld"])

    def test_a_pipelines_loss_is_known_and_what_is_not_is_said(self):
        (one, said, _), (two, nothing, _) = processes.run(trainings.pipeline, 2)
        assert one["objective"] == two["objective"]
        assert len(one["objective"]) == STEPS
        # the parameters of both stages have the same names, those of a layer by itself
        assert "3 layers, parameters and other places are on later ranks alone" in said
        assert nothing == ""

    def test_rank_0_records(self, tmp_path):
        processes.results(trainings.recorded, 2, str(tmp_path))
        assert [file.name for file in tmp_path.iterdir()] == ["0.sqlite"]

    def test_all_follow_the_schedule_of_rank_0(self):
        one, two = processes.results(trainings.scheduled, 2)
        assert one["sampled"] == two["sampled"]
        assert one["merges"] == two["merges"] == len(one["sampled"])
        assert len(one["sampled"]) > 31, "more than those that are always sampled"


@pytest.mark.slow
class TestShards:
    def test_fsdp_is_as_one_process_with_the_whole_network(self):
        one, two = processes.results(trainings.sharded, 2, "fsdp")
        as_one(one, 2, steps=(0, 5))
        assert all(series == [] for series in one["differ"].values()), "parts are meant to differ"
        assert one["gradients_equal"] == []
        weight = "inner.weight value"
        assert two["numbers"]["5"][weight]["count"] < one["numbers"]["5"][weight]["count"]

    def test_layers_that_are_computed_together(self):
        one, _ = processes.results(trainings.sharded, 2, "tensor")
        whole = trainings.numbers(trainings.one_process(1).session.trace, 5)
        for key in (k for k in whole if k.endswith((" value", ".weight gradient", " update"))):
            ours, theirs = (TensorSummary.from_json(numbers[key]) for numbers in (one["numbers"]["5"], whole))
            assert (ours.count, ours.norm) == (theirs.count, pytest.approx(theirs.norm, rel=1e-6)), key
        assert all(summary["units"] is None for summary in one["numbers"]["5"].values())
        assert "R005" not in one["codes"]
        assert "R001" not in one["codes"]


@pytest.mark.slow
class TestLost:
    @pytest.mark.parametrize(
        ("size", "how", "says"),
        [
            (2, "killed", "rank 1 is gone: from step 30 on rank 0 is watched by itself; the training goes on"),
            (4, "killed", "rank 3 is gone: from step 30 on rank 0 is watched by itself; the training goes on"),
            (2, "hanging", "rank 1 did not answer in time: from step 30 on rank 0 is watched by itself"),
            (4, "leaving", "rank 3 is not watched any more: from step 30 on rank 0 is watched by itself"),
            (4, "unreadable", "rank 3 sends numbers that cannot be read (there is no column 'rows_names'; install one"),
        ],
    )
    def test_the_others_go_on(self, size, how, says):
        seen = processes.run(trainings.lost, size, how)
        for rank, (result, said, code) in enumerate(seen[:-1]):
            assert code == 0
            assert result["error"] is None
            assert (result["steps"], result["merges"], result["alone_from"]) == (60, 30, 30)
            assert result["sampled"] == list(range(60))
            assert said.count("unstuck:") == (rank == 0)
            assert (says in said) == (rank == 0)

    def test_a_rank_that_skips_a_step_is_a_step_behind_from_then_on(self):
        (one, said, _), (two, nothing, _) = processes.run(trainings.lost, 2, "skipping")
        assert (one["merges"], two["merges"]) == (59, 59)
        assert said.count("from step 59 on rank 0 is watched by itself") == 1
        assert nothing == ""

    def test_uneven_inputs(self):
        """`Join` keeps the one that is through in collectives, where it merges nothing any more."""
        (one, said, code), (two, nothing, other) = processes.run(trainings.uneven, 2)
        assert (code, other) == (0, 0)
        assert (one["steps"], two["steps"]) == (14, 8)
        assert (one["merges"], one["alone_from"]) == (8, 8)
        assert "rank 1 did not answer in time: from step 8 on rank 0 is watched by itself" in said
        assert nothing == ""

    def test_a_rank_that_is_not_watched(self):
        (one, said, code), (_, nothing, other) = processes.run(trainings.half_watched, 2)
        assert (code, other) == (0, 0)
        assert (one["merges"], one["alone_from"], one["steps"]) == (0, 0, STEPS)
        assert "only 1 of 2 ranks are being watched: from step 0 on rank 0 is watched by itself" in said
        assert nothing == ""


def test_the_time_limit_is_a_few_seconds():
    assert 1.0 <= tree.LIMIT <= 10.0
    assert tree.MEETING <= 10.0
