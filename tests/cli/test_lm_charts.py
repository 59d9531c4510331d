from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from unstuck.cli.lm_charts import draw_ladder
from unstuck.lm.ladder import Plan, Results
from unstuck.lm.ladder_measures import Measured
from unstuck.lm.stages import stages_of

pytest.importorskip("vl_convert")


def results(losses: list[float]) -> Results:
    """Two stages, whose seeds have these validation losses."""
    plan = Plan(stages_of("kaiming,batchnorm"), len(losses), 2000)
    measured = {key: Measured(3.3, 0, 0, losses[key[1]], losses[key[1]], 0, 0) for key in plan.keys}
    return Results(plan, measured, {key: np.array([3.0, losses[key[1]]]) for key in plan.keys})


def test_one_seed_has_no_differences(tmp_path: Path) -> None:
    assert {path.stem for path in draw_ladder(results([2.1]), False, tmp_path)} == {"ladder-loss", "ladder-validation"}


def test_runs_that_diverged_are_left_out(tmp_path: Path) -> None:
    paths = draw_ladder(results([2.1, math.nan]), True, tmp_path / "new")
    assert {path.stem for path in paths} == {"ladder-loss", "ladder-validation"}
    assert all(path.stat().st_size > 1000 for path in paths)
