"""On rank 0: merged numbers take the place of its own; what single ranks showed is written down for the rules.

Vectors of the first backward call at a merged step, one entry a rank, as in `part.RECORD`: `rank_loss`,
`rank_nonfinite_since`, `rank_data`, `rank_parameters`, `rank_bad_rows`. Scalars there: `gradients_equal` (1 when the
gradients of all replicated parameters were the same on all ranks), `data_parallel` and `tensor_parallel` (how the model
is spread). Scalars of a parameter: `ranks_differ` (1 or 0). Of a site with elements that are not finite on some ranks:
`bad_ranks`, how many, and `first_bad_rank`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import numpy as np

from unstuck.ranks.part import Part
from unstuck.ranks.rows import ROLES
from unstuck.ranks.shards import Spread
from unstuck.trace import Kind, LossCall, Role, Site, Trace
from unstuck.trace.renewal import calls_of, renew_calls, renew_losses, renew_rows

VECTORS = {
    "rank_loss": "loss",
    "rank_nonfinite_since": "nonfinite_since",
    "rank_data": "data",
    "rank_parameters": "parameters",
    "rank_bad_rows": "bad_rows",
}


def enter(trace: Trace, part: Part, sites: Mapping[int, int], spread: Spread) -> None:
    """Enter a step that all ranks have merged; `sites` maps names to this rank's sites, others are left out."""
    size = len(part.records)
    _enter_rows(trace, part, sites, size)
    means = [(step, mean, count == size) for step, _, count, mean, _ in part.objectives.means()]
    latest = next(reversed(trace.objective), -1)  # the first stage of a pipeline has no loss
    renew_losses(trace, {step: mean for step, mean, all_ in means if all_ or step > latest})
    _enter_calls(trace, part, sites, size)
    for name, count, differ in zip(
        part.prints.names.tolist(), part.prints.counts.tolist(), part.prints.differ.tolist(), strict=True
    ):
        if name in sites and count == size:
            trace.add_scalar(part.step, sites[name], "ranks_differ", float(differ))
    if (place := _place(trace, part.step)) is not None:
        _enter_ranks(trace, part, place, spread)


def _enter_calls(trace: Trace, part: Part, sites: Mapping[int, int], size: int) -> None:
    """Enter the mean values of the loss calls that all ranks made, in their order, and those of backward calls."""
    means: dict[int, list[tuple[float, float | None]]] = {}
    for _, name, count, value, baseline in part.calls.means():  # of one name, in the order of their numbers
        if name in sites and count == size:
            means.setdefault(sites[name], []).append((value, baseline))
    left = {site: iter(values) for site, values in means.items()}
    own = [call.site for call in calls_of(trace, part.step)]
    calls = [LossCall(part.step, site, *mean) for site in own if (mean := next(left.get(site, iter(())), None))]
    if calls:
        renew_calls(trace, part.step, calls)
    for site in trace.of_kind(Kind.BACKWARD):
        objectives, values = trace.vector(site, "objectives", part.step), means.get(site.index, [])
        if objectives is not None and len(objectives) == len(values):
            trace.add_vector(part.step, site.index, "objectives", [value for value, _ in values])


def _enter_rows(trace: Trace, part: Part, sites: Mapping[int, int], size: int) -> None:
    rows = part.rows
    known = [row for row, name in enumerate(rows.names.tolist()) if name in sites]
    keys = [(sites[int(rows.names[row])], ROLES[rows.roles[row]]) for row in known]
    for step, numbers in groupby(range(len(known)), lambda number: int(rows.steps[known[number]])):
        own = list(numbers)
        renew_rows(trace, step, [keys[n] for n in own], rows.table.take([known[n] for n in own]))
    for row, (site, role) in zip(known, keys, strict=True):
        if 0 < rows.bad[row] < size and role in (Role.INPUT, Role.OUTPUT):
            trace.add_scalar(int(rows.steps[row]), site, "bad_ranks", float(rows.bad[row]))
            trace.add_scalar(int(rows.steps[row]), site, "first_bad_rank", float(rows.first_bad[row]))


def _place(trace: Trace, step: int) -> Site | None:
    """Return the first backward call of a step."""
    backward = (site for site in trace.of_kind(Kind.BACKWARD) if trace.vector(site, "objectives", step) is not None)
    return next(backward, None)


def _enter_ranks(trace: Trace, part: Part, place: Site, spread: Spread) -> None:
    for name, column in VECTORS.items():
        trace.add_vector(part.step, place.index, name, part.record(column))
    rows, size = part.rows, len(part.records)
    gradients = (rows.roles == ROLES.index(Role.GRADIENT)) & rows.one & (rows.steps == part.step)
    if gradients.any():
        equal = bool(np.all(rows.equal[gradients] & (rows.count[gradients] == size)))
        trace.add_scalar(part.step, place.index, "gradients_equal", float(equal))
    trace.add_scalar(part.step, place.index, "data_parallel", float(spread.data_parallel))
    trace.add_scalar(part.step, place.index, "tensor_parallel", float(spread.tensor_parallel))
