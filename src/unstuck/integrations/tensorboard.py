"""The numbers of a run as TensorBoard's event files, by the `tensorboard` package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unstuck.integrations.tables import statistic
from unstuck.stats.summary import EDGES, TensorSummary
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
    """Return the filled part of a summary's histogram, zeros in the bin around zero."""
    from tensorboard.compat.proto.summary_pb2 import HistogramProto

    negative, positive = summary.histogram
    around_zero = negative[0] + summary.zeros + positive[0]
    counts = np.concatenate([negative[:0:-1], [around_zero], positive[1:]])
    limits = np.concatenate([-EDGES[::-1], EDGES, [max(summary.maximum, 2 * EDGES[-1])]])
    filled = np.flatnonzero(counts)
    part = slice(max(0, filled[0] - 1), filled[-1] + 1)
    return HistogramProto(
        min=summary.minimum,
        max=summary.maximum,
        num=summary.finite,
        sum=summary.total,
        sum_squares=summary.squares,
        bucket_limit=limits[part].tolist(),
        bucket=counts[part].tolist(),
    )
