"""The numbers of a run as tables, for CSV and Parquet files: what is shown in a report, and more, row by row."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unstuck.stats.summary import EDGES, TensorSummary
from unstuck.trace import Role, Trace

Row = dict[str, Any]
STATISTICS = ("mean", "std", "rms", "minimum", "maximum", "zero_fraction", "outside_fraction")


def tables(trace: Trace) -> dict[str, Callable[[], Iterator[Row]]]:
    """Return the tables of a run: name -> its rows, each with the same columns.

    `losses` has the objective at each step that is kept, in its own unit; `summaries` a row for each sampled step, site
    and role; `scalars` the other numbers of sites; `sites` says what these are. A missing number is None.

    `histograms` has a row for each bin that is not empty: how many of the elements lay in low <= x < high (negative
    ones in low < x <= high, zeros in low = x = high, infinite edges for what lies beyond 2^32). `units` has a row for
    each unit of what entered an activation function: its elements, and how many of them were outside the responsive
    interval (saturated, or switched off by a rectifier) or zero.
    """
    return {
        "losses": lambda: ({"step": step, "loss": loss} for step, loss in sorted(trace.objective.items())),
        "sites": lambda: _sites(trace),
        "summaries": lambda: _summaries(trace),
        "scalars": lambda: _scalars(trace),
        "histograms": lambda: _histograms(trace),
        "units": lambda: _units(trace),
    }


def write_csv(trace: Trace, folder: Path) -> list[Path]:
    """Write each table as NAME.csv to a folder and return the paths; raises OSError."""
    paths = []
    for name, rows in tables(trace).items():
        path = folder / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, COLUMNS[name])
            writer.writeheader()
            writer.writerows(rows())
        paths.append(path)
    return paths


def write_parquet(trace: Trace, folder: Path) -> list[Path]:
    """Write each table as NAME.parquet to a folder and return the paths; raises OSError, and ImportError."""
    import pyarrow
    from pyarrow import parquet

    types = {"int": pyarrow.int64(), "float": pyarrow.float64(), "str": pyarrow.string()}
    paths = []
    for name, rows in tables(trace).items():
        schema = pyarrow.schema([(column, types[kind]) for column, kind in COLUMNS[name].items()])
        known = [{column: _readable(value) for column, value in row.items()} for row in rows()]
        paths.append(folder / f"{name}.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(known, schema), paths[-1])
    return paths


COLUMNS = {
    "losses": {"step": "int", "loss": "float"},
    "sites": {"site": "int", "label": "str", "kind": "str", "op": "str", "file": "str", "line": "int"},
    "summaries": {"step": "int", "site": "int", "label": "str", "role": "str", "count": "int", "nonfinite": "int"}
    | dict.fromkeys(STATISTICS, "float"),
    "scalars": {"step": "int", "site": "int", "label": "str", "name": "str", "value": "float"},
    "histograms": {"step": "int", "site": "int", "label": "str", "role": "str"}
    | {"low": "float", "high": "float", "count": "int"},
    "units": {"step": "int", "site": "int", "label": "str", "role": "str", "unit": "int"}
    | dict.fromkeys(("count", "outside", "zeros"), "int"),
}
"""The columns of each table and what they hold."""


def statistic(summary: TensorSummary, name: str) -> float | None:
    """Return a property of a summary; None where it is not defined or overflows."""
    if not summary.finite:
        return None
    try:
        return float(getattr(summary, name))
    except OverflowError:
        return None


def _sites(trace: Trace) -> Iterator[Row]:
    for site in trace.sites:
        place = site.location
        file, line = (None, None) if place is None else (place.file, place.line)
        row = {"site": site.index, "label": site.label, "kind": str(site.kind), "op": site.op}
        yield {**row, "file": file, "line": line}


def _summaries(trace: Trace) -> Iterator[Row]:
    for row, summary in _all(trace):
        numbers = {name: statistic(summary, name) for name in STATISTICS}
        yield {**row, "count": summary.count, "nonfinite": summary.nonfinite, **numbers}


def _scalars(trace: Trace) -> Iterator[Row]:
    for site in trace.sites:
        for name in trace.scalar_names(site):
            for step, value in trace.scalars(site, name):
                yield {"step": step, "site": site.index, "label": site.label, "name": name, "value": value}


def _histograms(trace: Trace) -> Iterator[Row]:
    magnitudes = [0.0, *EDGES.tolist(), math.inf]
    for row, summary in _all(trace):
        negative, positive = (counts.tolist() for counts in summary.histogram)
        for k in range(len(negative) - 1, -1, -1):
            if negative[k]:
                yield {**row, "low": -magnitudes[k + 1], "high": -magnitudes[k], "count": negative[k]}
        if summary.zeros:
            yield {**row, "low": 0.0, "high": 0.0, "count": summary.zeros}
        for k, count in enumerate(positive):
            if count:
                yield {**row, "low": magnitudes[k], "high": magnitudes[k + 1], "count": count}


def _units(trace: Trace) -> Iterator[Row]:
    for row, summary in _all(trace):
        units = summary.units
        if units is not None:
            for k, (outside, zeros) in enumerate(zip(units.outside.tolist(), units.zeros.tolist(), strict=True)):
                yield {**row, "unit": k, "count": units.count, "outside": outside, "zeros": zeros}


def _all(trace: Trace) -> Iterator[tuple[Row, TensorSummary]]:
    for site in trace.sites:
        for role in Role:
            for step, summary in trace.summaries(site, role):
                yield {"step": step, "site": site.index, "label": site.label, "role": str(role)}, summary


def _readable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
