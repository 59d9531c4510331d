"""Weights & Biases (https://docs.wandb.ai/ref/python/)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb

from unstuck.integrations.vitals import PREFIX, even_histogram
from unstuck.report import Report
from unstuck.stats.summary import TensorSummary

AXIS = f"{PREFIX}/step"


class WandbTracker:
    """Logs to the run that is given or active, or to one of its own.

    The curves have an axis of their own, "unstuck/step". The run's own step, which the user's script counts, is never
    moved: numbers join the script's next `log` call, so that of two samples between two of these the later one stands.
    """

    def __init__(self, run: Any, title: str) -> None:
        given = run or wandb.run
        self._own = given is None
        self._run = given or wandb.init(project="unstuck", name=title)
        self._run.define_metric(AXIS, hidden=True)
        self._run.define_metric(f"{PREFIX}/*", step_metric=AXIS)

    def step(self, step: int, scalars: dict[str, float], summaries: dict[str, TensorSummary]) -> None:
        """Log scalars, and histograms of `BINS` bins."""
        histograms = {name: wandb.Histogram(np_histogram=even_histogram(s)) for name, s in summaries.items()}
        self._run.log({AXIS: step, **scalars, **histograms}, commit=self._own)

    def report(self, report: Report, files: Sequence[Path]) -> None:
        """Log the report as an artifact "unstuck-report", and what was found to the run's summary."""
        self._run.summary.update({f"{PREFIX}/ok": report.ok, f"{PREFIX}/findings": ", ".join(report.codes())})
        artifact = wandb.Artifact(f"unstuck-report-{self._run.id}", type="report")
        for file in files:
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def close(self) -> None:
        """End the run, if it is ours."""
        if self._own:
            self._run.finish()
