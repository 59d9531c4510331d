"""trackio (https://huggingface.co/docs/trackio/), which keeps its runs on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trackio
from trackio import context_vars

from unstuck.integrations.vitals import even_histogram
from unstuck.report import Report
from unstuck.stats.summary import TensorSummary


class TrackioTracker:
    """Logs to the run that is given or active, or to one of its own in the project "unstuck"."""

    def __init__(self, run: Any, title: str) -> None:
        given = run or context_vars.current_run.get()
        self._own = given is None
        self._run = given or trackio.init(
            project="unstuck", group=title, embed=False, auto_log_gpu=False, auto_log_cpu=False
        )

    def step(self, step: int, scalars: dict[str, float], summaries: dict[str, TensorSummary]) -> None:
        """Log scalars, and histograms of `BINS` bins."""
        histograms = {name: trackio.Histogram(np_histogram=even_histogram(s)) for name, s in summaries.items()}
        self._run.log({**scalars, **histograms}, step=step)

    def report(self, report: Report, files: Sequence[Path]) -> None:  # noqa: ARG002
        """Log the report as an artifact "unstuck-report"."""
        for file in files:
            self._run.log_artifact(str(file), name="unstuck-report", type="report")

    def close(self) -> None:
        """End the run, if it is ours."""
        if self._own:
            trackio.finish()  # type: ignore[no-untyped-call]
