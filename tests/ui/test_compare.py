"""What is drawn and said of two runs side by side."""

from __future__ import annotations

from report.drawn import silent
from report.made import report
from unstuck.ui import compare


def test_a_line_begins_with_the_loss_at_step_0_however_long_the_run():
    made = silent()
    made.objective.update({0: 27.0, **dict.fromkeys(range(1, 20_000), 3.0)})
    assert compare.side("A", "a", report(trace=made), "ended").losses[0] == {
        "step": 0,
        "loss": 27.0,
        "run": "A train.py",
    }
