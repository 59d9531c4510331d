"""Traces made step by step from a seed, as capture fills them, and what it means that two of them are equal."""

from __future__ import annotations

import math

import numpy as np

from unstuck.stats.summary import BINS, TensorSummary, UnitSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace import Edge, Kind, Location, LossCall, Role, Site, Trace, Watching

FILE = __file__


def summary(rng: np.random.Generator, units: int = 0) -> TensorSummary:
    histogram = np.zeros((2, BINS), dtype=np.int64)
    histogram.reshape(-1)[rng.integers(0, 2 * BINS, 40)] = rng.integers(1, 1 << 30, 40)
    known = None
    if units:
        whole = [rng.integers(0, 9, units) for _ in range(3)]
        ends = rng.standard_normal((2, units)).astype(np.float32).astype(np.float64)
        known = UnitSummary(8, rng.standard_normal(units), rng.random(units), ends[0], ends[1], *whole)
    count = 8 * units if units else 64
    return TensorSummary(count, 1, 2, 3, rng.standard_normal(), rng.random(), -math.inf, 7.5, histogram, known)


def site(index: int, kind: Kind = Kind.WEIGHT_LAYER, **fields) -> Site:
    place = Location(FILE, index + 1, "step") if index % 2 else None
    return Site(index, kind, "linear", f"layers.{index}", place, index, shape=(3, index), parameters=(0,), **fields)


def fill(trace: Trace, step: int, *, sites: int = 3, units: int = 5, seed: int = 0) -> None:
    """Enter a step, the same one for the same arguments."""
    rng = np.random.default_rng((seed, step))
    while len(trace.sites) < sites or (step == 4 and len(trace.sites) == sites):  # one more appears late
        index = len(trace.sites)
        kind = Kind.ACTIVATION if index == 1 else Kind.WEIGHT_LAYER
        trace.sites.append(site(index, kind, interval=(-2.0, math.inf) if index == 1 else None))
        if index:
            trace.edges.add(Edge(index - 1, index, direct=index != 2))
    trace.add_step(step)
    trace.objective[step] = math.nan if step == 3 else rng.random()
    tables = [summary(rng, units if k == 1 else 0) for k in range(sites)]
    trace.add_table(step, [(k, Role.INPUT) for k in range(sites)], SummaryTable.of(tables))
    if step % 2:  # a site that is used twice in a step
        trace.add_table(step, [(1, Role.INPUT), (0, Role.OUTPUT)], SummaryTable.of(tables), [1, -1])
    first, then = SummaryTable.of([summary(rng), summary(rng)]), SummaryTable.of([summary(rng)])
    trace.add_table(step, [(0, Role.VALUE), (0, Role.UPDATE)], first, replace=True)
    trace.add_table(step, [(0, Role.VALUE)], then, replace=True)
    trace.add_scalar(step, 0, "calls", float(step))
    trace.add_scalar(step, 0, "calls", math.nan if step == 5 else step + 1.0)
    trace.add_scalar(0, 2, f"seen late {step % 7}", float(step))
    trace.add_vector(step, 1, "counts", rng.random(step % 4))
    trace.loss_calls.append(LossCall(step, 2, rng.random(), None if step % 3 else 2.5))
    trace.sites[0].location = Location(FILE, step + 1)
    trace.facts.backward_calls = step + 1
    trace.facts.watching = Watching(seconds=step / 8, steps=step, budget=0.01)


def made(steps: int, **arguments) -> Trace:
    trace = Trace()
    for step in range(steps):
        fill(trace, step, **arguments)
    return trace


def assert_same(found: Trace, expected: Trace) -> None:
    """Everything that a trace holds is equal, NaN being equal to NaN."""
    assert found.sites == expected.sites
    assert found.edges == expected.edges
    assert found.steps == expected.steps
    assert repr(found.objective) == repr(expected.objective)
    assert found.loss_calls == expected.loss_calls
    assert found.facts == expected.facts
    found, expected = found.snapshot(), expected.snapshot()  # all sorted in
    assert {k: list(v) for k, v in found._summaries.items() if v} == {
        k: list(v) for k, v in expected._summaries.items() if v
    }
    for (index, role), series in expected._summaries.items():
        for step in series:
            same_summary(
                found.summary(found.sites[index], role, step), expected.summary(found.sites[index], role, step)
            )
    for numbers in ("_scalars", "_vectors"):
        mine, theirs = ({k: v for k, v in getattr(t, numbers).items() if v} for t in (found, expected))
        assert mine.keys() == theirs.keys()
        for key, series in theirs.items():
            assert list(mine[key]) == list(series)
            for step, value in series.items():
                np.testing.assert_array_equal(mine[key][step], value)


def same_summary(found: TensorSummary, expected: TensorSummary) -> None:
    numbers = ("count", "nonfinite", "zeros", "outside", "total", "squares", "minimum", "maximum")
    assert [getattr(found, n) for n in numbers] == [getattr(expected, n) for n in numbers]
    np.testing.assert_array_equal(found.histogram, expected.histogram)
    assert (found.units is None) == (expected.units is None)
    if found.units is not None:
        for name in ("count", "total", "squares", "minimum", "maximum", "zeros", "outside", "nonfinite"):
            np.testing.assert_array_equal(getattr(found.units, name), getattr(expected.units, name))
