"""The benchmarks run and add up; what they measure is asserted nowhere."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.imports import Imported, added
from benchmarks.one_process import Measured, measure
from benchmarks.overhead import Others, added_memory, added_time, measure_all, notes, once, table
from benchmarks.watchers import TOOLS, Nothing, lecture
from benchmarks.workloads import ONE_WEIGHT, WORKLOADS


def measured(step=0.001, peak=10.0, resident=200.0, start=0.1, **rest):
    return Measured(step, step * 2, start, 0.0, 100, None, resident, peak, **rest)


RESULTS = {
    ("weight", "bare"): [measured(peak=2.0), measured(peak=2.0)],
    ("weight", "lecture"): [measured(peak=3.0, resident=205.0, start=0.4)] * 2,
    ("names", "bare"): [measured(0.001), measured(0.002)],
    ("names", "lecture"): [measured(0.003, peak=15.0), measured(0.004, peak=16.0)],
}
NAMES = WORKLOADS["names"]


class TestTable:
    def test_compares_within_a_round(self):
        assert added_time(RESULTS, "names", "lecture") == pytest.approx([2.0, 1.0])

    def test_code_that_loads_on_first_use_is_not_the_steps(self):
        assert added_memory(RESULTS, "names", "lecture") == [(15 - 3) - (10 - 2), (16 - 3) - (10 - 2)]
        seconds, megabytes = once(RESULTS, "lecture")
        assert seconds == pytest.approx([0.3, 0.3])
        assert megabytes == [6.0, 6.0]

    def test_a_row_for_every_tool_and_a_second_one_for_the_whole_run(self):
        lines = table(RESULTS, [NAMES], list(TOOLS)).splitlines()
        assert {line.count("|") for line in lines} == {6}
        labels = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]]
        assert labels[0] == "bare"
        assert set(labels) == {tool.label for tool in TOOLS.values()} | {"unstuck, default, from step 0 on"}
        row = next(line for line in lines if line.startswith("| the lecture's lists"))
        cells = ["the lecture's lists", "1.50 (1.00 … 2.00)", "+4.5 (+4.0 … +5.0), +56%"]
        assert row == f"| {' | '.join([*cells, '0.30 (0.30 … 0.30)', '6 (6 … 6)'])} |"

    def test_a_tool_without_numbers_has_dashes_and_a_note(self):
        def run(workload, tool):
            return "not installed (no module wandb)" if tool == "wandb" else measured()

        results, failed = measure_all([NAMES], ["bare", "wandb"], 2, run)
        assert len(results["names", "bare"]) == 2
        assert "| wandb.watch(all) | – | – | – | – |" in table(results, [NAMES], ["bare", "wandb"])
        assert "- wandb.watch(all): not installed (no module wandb)" in notes(results, [NAMES], failed)

    def test_a_tool_that_fails_on_a_workload_is_asked_no_more_there(self):
        asked = []

        def run(workload, tool):
            asked.append((workload, tool))
            return "broke" if (workload, tool) == ("names", "lecture") else measured(others=0.0)

        _, failed = measure_all([NAMES], ["bare", "lecture"], 3, run)
        assert failed == {"the lecture's lists on names": "broke"}
        assert asked.count(("names", "lecture")) == 1
        assert asked.count(("names", "bare")) == 3


@pytest.mark.parametrize("workload", [ONE_WEIGHT, *WORKLOADS.values()], ids=lambda w: w.name)
def test_a_workload_makes_finite_losses(workload):
    torch.manual_seed(1)
    assert workload.build().step(Nothing()).isfinite()


def test_one_process_measures():
    found = measure(ONE_WEIGHT, TOOLS["lecture"], 10.0)
    assert found.timed_steps == ONE_WEIGHT.steps - ONE_WEIGHT.warm_up
    assert found.step_seconds > 0
    assert found.start_seconds < found.step_seconds_from_start * ONE_WEIGHT.steps


def test_the_lists_hold_a_ratio_of_every_parameter(tmp_path):
    training = NAMES.build()
    with lecture(training, tmp_path) as lists:
        training.step(lists)
    assert len(lists.ratios[0]) == len(list(training.model.parameters()))
    assert all(output.grad is not None for output in lists.outputs.values())


def test_quiet_machines_have_no_others():
    with Others(threads=0) as others:
        pass
    assert others.share is None or others.share >= 0


def test_only_what_follows_torch_is_added():
    text = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       100 |        100 |   torch._C\n"
        "import time:       200 |        300 | torch\n"
        "import time:        30 |         30 |   unstuck.api\n"
        "import time:        10 |         40 | unstuck\n"
    )
    assert added(text) == [Imported("unstuck.api", 30, 30), Imported("unstuck", 10, 40)]
