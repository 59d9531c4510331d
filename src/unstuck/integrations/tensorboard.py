"""The numbers of a run as TensorBoard's event files, by the `tensorboard` package."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unstuck.integrations.tables import statistic
from unstuck.integrations.vitals import PREFIX, filled_bins
from unstuck.report import Report
from unstuck.stats.summary import TensorSummary
from unstuck.trace import Role, Trace

STATISTICS = ("mean", "std", "outside_fraction")


def write_events(trace: Trace, folder: Path, *, begun: float = 0.0) -> list[Path]:
    """Write one event file to a folder and return its path; raises OSError, ImportError without tensorboard.

    `loss` is a scalar at each step that is kept; each site and role has its statistics as scalars and its histogram,
    at the sampled steps; all at the wall time `begun`, in seconds of the epoch.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    known = set(folder.glob("events.out.tfevents.*"))
    writer = EventFileWriter(str(folder), filename_suffix=".unstuck")

    def add(step: int, **value: Any) -> None:
        writer.add_event(Event(wall_time=begun, step=step, summary=Summary(value=[Summary.Value(**value)])))

    for step, loss in sorted(trace.objective.items()):
        add(step, tag="loss", simple_value=loss)
    for site in trace.sites:
        name = site.label.encode("utf-8", "backslashreplace").decode()
        for role in Role:
            for step, summary in trace.summaries(site, role):
                tag = f"{site.index} {name}/{role}"
                for which in STATISTICS:
                    number = statistic(summary, which)
                    if number is not None:
                        add(step, tag=f"{tag}, {which}", simple_value=number)
                if summary.finite:
                    add(step, tag=tag, histo=_histogram(summary))
    writer.close()
    return sorted(set(folder.glob("events.out.tfevents.*")) - known)


def _histogram(summary: TensorSummary) -> Any:
    """Return the filled part of a summary's histogram; a bucket's limit is its upper edge."""
    from tensorboard.compat.proto.summary_pb2 import HistogramProto

    return HistogramProto(**_fields(summary))


def _fields(summary: TensorSummary) -> dict[str, Any]:
    counts, edges = filled_bins(summary)
    return {
        "min": summary.minimum,
        "max": summary.maximum,
        "num": summary.finite,
        "sum": summary.total,
        "sum_squares": summary.squares,
        "bucket_limit": edges.tolist(),  # the first one ends an empty bucket, so that the next has a lower edge
        "bucket": [0, *counts.tolist()],
    }


class TensorBoardTracker:
    """Logs to the SummaryWriter that is given, or to one of its own in torch's default folder, runs/DATE_HOST."""

    def __init__(self, writer: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._own = writer is None
        self._writer = writer or SummaryWriter(filename_suffix=".unstuck")

    def step(self, step: int, scalars: dict[str, float], summaries: dict[str, TensorSummary]) -> None:
        """Write scalars and histograms."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        for name, summary in summaries.items():
            fields = _fields(summary)
            limits, counts = fields.pop("bucket_limit"), fields.pop("bucket")
            self._writer.add_histogram_raw(name, **fields, bucket_limits=limits, bucket_counts=counts, global_step=step)

    def report(self, report: Report, files: Sequence[Path]) -> None:
        """Write the report's text as a text, and put its file beside the events: TensorBoard knows no artifacts."""
        text = report.render("text", verbose=True)
        self._writer.add_text(f"{PREFIX}/report", "\n".join(f"    {line}" for line in text.splitlines()))
        for file in files:
            shutil.copy(file, Path(self._writer.get_logdir()) / f"unstuck-{file.name}")

    def close(self) -> None:
        """Write everything to disk; end the writer if it is ours."""
        if self._own:
            self._writer.close()
        else:
            self._writer.flush()
