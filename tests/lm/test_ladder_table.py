from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from unstuck.lm import ladder_table
from unstuck.lm.ladder import Plan, Results
from unstuck.lm.ladder_measures import Measured
from unstuck.lm.ladder_table import as_data, render, stage_rows, step_rows, why_incomparable
from unstuck.lm.stages import stages_of
from unstuck.lm.statistics import quantile


def results(losses: dict[str, list[float]], steps: int = 200_000) -> Results:
    """Results with these validation losses by stage; training losses are 0.1 lower."""
    stages = stages_of(",".join(losses))
    seeds = len(next(iter(losses.values())))
    measured = {
        (name, seed): Measured(3.3, 0.1, 0, loss - 0.1, loss, 0.25, 1)
        for name, held in losses.items()
        for seed, loss in enumerate(held)
    }
    return Results(Plan(stages, seeds, steps), measured, {key: np.zeros(2) for key in measured})


TWO = {"kaiming": [2.10, 2.12, 2.11, 2.13], "batchnorm": [2.09, 2.112, 2.099, 2.121]}


def test_no_lectures_losses_without_its_data_or_its_steps() -> None:
    assert "its own list of 32,033 names" in why_incomparable(["emma"], 200_000)


def test_the_lectures_losses_are_of_its_own_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_table, "is_lectures", lambda words: True)
    assert why_incomparable([], 200_000) == ""
    assert why_incomparable([], 1_000) == "the lecture's losses are of 200,000 steps, these of 1,000"


def test_one_seed_claims_nothing() -> None:
    text = render(results({name: held[:1] for name, held in TWO.items()}), "a reason")
    assert "±" not in text
    assert "one seed: no telling" in text
    assert "No column for the lecture: a reason." in text


def test_one_stage_has_no_differences() -> None:
    assert "→ kaiming" not in render(results({"kaiming": [2.1, 2.2]}), "")


def test_differences_are_paired() -> None:
    (row,) = step_rows(results(TWO))
    change = np.array(TWO["batchnorm"]) - np.array(TWO["kaiming"])
    assert row.val.mean == pytest.approx(change.mean())
    assert row.val.half == pytest.approx(quantile(3) * change.std(ddof=1) / 2)
    assert row.val.half < stage_rows(results(TWO))[0].val.half / 5
    assert row.val.sign == -1


@pytest.mark.parametrize(
    ("later", "verdict"), [([2.09] * 4, "better"), ([2.2] * 4, "worse"), ([2.10, 2.13, 2.11, 2.12], "not told from 0")]
)
def test_verdicts(later: list[float], verdict: str) -> None:
    line = next(line for line in render(results({**TWO, "batchnorm": later}), "").splitlines() if "→ b" in line)
    assert line.endswith(verdict)


@pytest.mark.parametrize("held", [[2.107], [2.1, math.nan]])
def test_without_an_interval_there_is_no_verdict(held: list[float]) -> None:
    """Neither of one seed nor where a run diverged."""
    found = results({"kaiming": held})
    row = next(line for line in render(found, "", markdown=True).splitlines() if line.startswith("| kaiming |"))
    assert row.endswith(" | 2.1070 |")
    assert as_data(found, "", "names.txt", "00")["stages"][0]["lecture"]["val"] == {"loss": "2.1070", "lies": None}


def test_one_seed_has_no_legend_of_verdicts() -> None:
    text = render(results({"kaiming": [2.107]}), "")
    assert "whether these agree cannot be told from one seed" in text
    assert "in mean" not in text


def test_the_legend_says_that_rounding_is_allowed_for() -> None:
    """Of 2.13, the loss of the stage before, 2.1349 may be what was rounded."""
    text = render(results({"small-output": [2.1348, 2.1350, 2.1349, 2.1349]}), "")
    assert "2.13 in mean" in text
    assert "widened by what the\nloss was rounded by (half a unit of its last digit)" in text


@pytest.mark.parametrize(
    ("shift", "word"), [(0.0, "in mean"), (0.04, "in runs"), (-0.04, "in runs"), (0.08, "outside"), (-0.08, "outside")]
)
def test_where_the_lectures_loss_lies(shift: float, word: str) -> None:
    """The lecture's validation loss of this stage is 2.1070; these four have a deviation of 0.0129."""
    losses = [2.107 + shift + spread for spread in (-0.015, 0.005, -0.005, 0.015)]
    assert f"2.1070 {word}" in render(results({"kaiming": losses}), "")


def test_the_split_stands_under_the_table() -> None:
    found = results(TWO)
    assert "Split 80/10/10 by distinct word.\n" in render(found, "a reason")
    found = replace(found, split="lines")
    assert "Split 80/10/10 by line, as in the lecture.\n" in render(found, "")
    assert as_data(found, "", "names.txt", "00")["data"]["split"] == "lines"


def test_text_and_markdown_hold_the_same_cells() -> None:
    text, markdown = (render(results(TWO), "", markdown=mark) for mark in (False, True))
    row = next(line for line in markdown.splitlines() if line.startswith("| kaiming |"))
    assert row == (
        "| kaiming | 3.30 | 10.0% → 25.0% | 0.0 → 1.0 | 2.0150 ± 0.0205 | 2.0377 in runs | 2.1150 ± 0.0205 "
        "| 2.1070 in mean |"
    )
    words = [line.split() for line in text.splitlines() if line.startswith("kaiming  ")]
    assert words == [row.replace("|", " ").split()]
    assert all(len(line) <= 120 for line in text.splitlines())


def test_data_is_json_and_says_what_the_table_says() -> None:
    data = json.loads(json.dumps(as_data(results(TWO), "", "names.txt", "00"), allow_nan=False))
    assert data["incomparable"] is None
    assert [stage["stage"] for stage in data["stages"]] == ["kaiming", "batchnorm"]
    stage = data["stages"][0]
    assert stage["lecture"]["val"] == {"loss": "2.1070", "lies": "in mean"}
    assert [run["val"] for run in stage["runs"]] == TWO["kaiming"]
    assert data["differences"][0]["later"] == "batchnorm"


def test_runs_that_diverged_are_null_in_json() -> None:
    data = as_data(results({"kaiming": [2.1, math.nan]}), "why", "names.txt", "00")
    assert data["stages"][0]["runs"][1]["val"] is None
    assert "lecture" not in data["stages"][0]
    assert "nan" in render(results({"kaiming": [2.1, math.nan]}), "why")
