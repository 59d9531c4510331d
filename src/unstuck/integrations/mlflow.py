"""MLflow (https://mlflow.org/docs/latest/ml/tracking/); the package `mlflow-skinny` is enough."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric

from unstuck.integrations.vitals import PREFIX
from unstuck.report import Report
from unstuck.stats.summary import TensorSummary

FORBIDDEN = re.compile(r"[^/\w.\- :]")  # in the name of a metric
LONGEST = 250  # characters of the name of a metric: mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH
AT_ONCE = 1000  # metrics in a request: mlflow.utils.validation.MAX_METRICS_PER_BATCH


class MlflowTracker:
    """Logs to the run that is given or active, or to one of its own.

    MLflow knows no histograms; those are in the report.
    """

    def __init__(self, run: Any, title: str) -> None:
        given = run or mlflow.active_run()
        self._client = mlflow.MlflowClient()
        self._own = given is None
        self._id = (given or mlflow.start_run(run_name=title)).info.run_id

    def step(self, step: int, scalars: dict[str, float], summaries: dict[str, TensorSummary]) -> None:  # noqa: ARG002
        """Log scalars; characters that a metric's name cannot have become underscores."""
        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, step) for name, value in scalars.items()]
        for first in range(0, len(metrics), AT_ONCE):
            self._client.log_batch(self._id, metrics[first : first + AT_ONCE])

    def report(self, report: Report, files: Sequence[Path]) -> None:
        """Log the report as an artifact below "unstuck", and what was found as tags."""
        for name, value in (("ok", str(report.ok).lower()), ("findings", ", ".join(report.codes()))):
            self._client.set_tag(self._id, f"{PREFIX}.{name}", value)
        for file in files:
            self._client.log_artifact(self._id, str(file), PREFIX)

    def close(self) -> None:
        """End the run, if it is ours."""
        if self._own:
            mlflow.end_run()


def _name(name: str) -> str:
    return FORBIDDEN.sub("_", name)[:LONGEST]
