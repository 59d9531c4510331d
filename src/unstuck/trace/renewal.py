"""What was entered for a step, to be told to others, and other numbers in its place: those of several ranks."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from unstuck.stats.table import SummaryTable
from unstuck.trace.journal import TableEntry
from unstuck.trace.sites import Key
from unstuck.trace.trace import BYTES_A_ROW, LossCall, Trace


def rows_of(trace: Trace, step: int, without: Collection[Key] = ()) -> tuple[list[Key], SummaryTable]:
    """Return what was summarised at a step, one row a key; without the keys that are known already."""
    trace._sort_in()
    places: dict[int, tuple[SummaryTable, list[int], list[Key]]] = {}
    for key, series in trace._summaries.items():
        if step in series and key not in without:
            table, row = series[step]
            _, rows, keys = places.setdefault(id(table), (table, [], []))
            rows.append(row)
            keys.append(key)
    keys = [key for _, _, some in places.values() for key in some]
    parts = [table.take(rows) for table, rows, _ in places.values()]
    return keys, SummaryTable.joined(parts) if parts else SummaryTable.of([])


def renew_rows(trace: Trace, step: int, keys: Sequence[Key], table: SummaryTable) -> None:
    """Put rows in the place of those that a step has under the same keys, in a journal as well."""
    journal, renewed = trace.journal, set(keys)
    if journal is not None:
        tables: list[TableEntry] = []
        for when, old, earlier, rows, replaces in journal.tables:
            left = [-1 if when == step and key in renewed else row for row, key in zip(rows, old, strict=True)]
            if any(row >= 0 for row in left):
                tables.append((when, old, earlier, left, replaces))
        journal.tables = tables
    trace._bytes[step] -= sum(BYTES_A_ROW for _ in keys)  # roughly: a merged row takes the place of one as large
    trace.add_table(step, keys, table, replace=True)


def renew_losses(trace: Trace, means: Mapping[int, float]) -> None:
    """Put values, by rising steps, in place of those that the objective had, or after them; in a journal as well."""
    latest = next(reversed(trace.objective), -1)
    known = {step: value for step, value in means.items() if step in trace.objective or step > latest}
    trace.objective.update(known)
    if trace.journal is not None and known:
        first = min(known)
        earlier = trace.journal.losses_from
        trace.journal.losses_from = first if earlier is None else min(first, earlier)


def calls_of(trace: Trace, step: int) -> list[LossCall]:
    """Return the loss calls of a late step, in their order."""
    late = itertools.takewhile(lambda call: call.step >= step, reversed(trace.loss_calls))
    return [call for call in late if call.step == step][::-1]


def renew_calls(trace: Trace, step: int, calls: Sequence[LossCall]) -> None:
    """Put loss calls in the place of those of a step, in their order."""
    at = len(trace.loss_calls)
    while at and trace.loss_calls[at - 1].step >= step:
        at -= 1
    later = [call for call in trace.loss_calls[at:] if call.step != step]
    trace.loss_calls[at:] = [*calls, *later]
