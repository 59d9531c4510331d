"""The exported tables hold the numbers of the trace."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from report.drawn import silent
from rules.helpers import TraceBuilder, normal
from unstuck.integrations.tables import COLUMNS, tables, write_csv, write_parquet
from unstuck.trace import Role


def activation(values: np.ndarray, op: str = "tanh"):
    made = TraceBuilder(range(2))
    return made.trace, made.activation(op, pre=values)


def test_a_run_without_numbers_has_tables_without_rows():
    assert {name: list(rows()) for name, rows in tables(silent()).items()} == {name: [] for name in COLUMNS}


def test_values_that_are_not_finite_are_in_no_bin():
    trace, _ = activation(np.full((3, 2), np.nan))
    assert list(tables(trace)["histograms"]()) == []


def test_each_value_lies_in_a_bin_and_the_bins_stand_in_order():
    values = np.append(normal(2.0, 99, 5), [[0.0, -0.0, 2.0**40, -(2.0**-40), 1.0]], axis=0)
    trace, _ = activation(values)
    rows = [row for row in tables(trace)["histograms"]() if row["step"] == 1]
    assert sum(row["count"] for row in rows) == values.size
    assert [row["low"] for row in rows] == sorted(row["low"] for row in rows)
    for row in rows:
        low, high = row["low"], row["high"]
        found = values == 0 if low == high else (low <= values) & (values < high) & (values > 0)
        found = (low < values) & (values <= high) & (values < 0) if low < 0 else found
        assert row["count"] == found.sum()


def test_units_are_counted_apart():
    values = normal(1.0, 40, 3)
    values[:, 1] = 9.0
    trace, site = activation(values)
    rows = [row for row in tables(trace)["units"]() if row["step"] == 0]
    outside = (np.abs(values) > site.interval[1]).sum(0).tolist()
    assert [(row["unit"], row["count"], row["outside"]) for row in rows] == [(k, 40, outside[k]) for k in range(3)]
    assert outside[1] == 40
    assert {(row["site"], row["role"]) for row in rows} == {(site.index, str(Role.INPUT))}


def test_both_kinds_of_file_hold_the_same(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    trace, _ = activation(normal(2.0, 20, 5), "relu")
    write_parquet(trace, tmp_path)
    for path in write_csv(trace, tmp_path):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found = parquet.read_table(path.with_suffix(".parquet")).to_pylist()
        assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in found] == rows
        assert list(COLUMNS[path.stem]) == list(rows[0] if rows else COLUMNS[path.stem])
