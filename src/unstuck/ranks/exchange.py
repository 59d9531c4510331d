"""One rank's side of a merge: what it brings, and on rank 0 what becomes of all of it together."""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unstuck.ranks.entering import enter
from unstuck.ranks.fingerprints import fingerprints
from unstuck.ranks.names import Names
from unstuck.ranks.part import Losses, Part, Prints
from unstuck.ranks.rows import Rows
from unstuck.ranks.shards import Held, Spread, held, spread_of
from unstuck.ranks.tree import LostError, Tree
from unstuck.stats.table import SummaryTable
from unstuck.trace import Kind, Role
from unstuck.trace.packing import PackingError
from unstuck.trace.renewal import calls_of, rows_of
from unstuck.trace.sites import Key

if TYPE_CHECKING:
    from unstuck.capture.session import Session

PARAMETER_ROLES = frozenset({Role.VALUE, Role.GRADIENT, Role.UPDATE})
ALL_PRINTS = 8  # merges that all bring fingerprints; then one in eight: they read every parameter once
MAX_LOSSES = 4096  # values of the objective that one merge brings, the latest ones; 40 bytes each
NOWHERE = -1.0


class Exchange:
    """Merges the sampled steps of a session with those of the other ranks until one of them is lost."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._trace = session.trace
        self._names = Names(session.trace)
        self._tree: Tree | None = None
        self._over = False
        self._merges = 0
        self._last = -1  # the step that was merged last
        self._known: set[Key] = set()  # its keys: those that come later belong to a second optimizer
        self._keys: set[Key] = set()  # of the step that is being merged
        self._nonfinite_since = NOWHERE
        self._spread = Spread()
        self._end_wanted = self._end_agreed = False
        self._others_own: set[int] = set()  # names of sites that rank 0 had not when they came

    def complete(self, step: int) -> bool:
        """Merge a sampled step that is complete; tells whether that was done."""
        if self._over:
            return False
        try:
            if self._tree is None:
                self._tree = Tree()
            part = self._part(step, self._tree)
            answer = self._tree.reduce(part.to_bytes(), _merged, self._answer)
        except LostError as error:
            self._end(step, error)
            return False
        self._merges += 1
        self._last, self._known = step, self._keys
        following = int.from_bytes(answer[:8], "little", signed=True)
        self._end_agreed = answer[8:] == b"\1"
        if self._session.schedule.every is None:
            self._session.schedule.agree(following)
        self._note()
        return True

    def ending(self, wanted: bool) -> bool:
        """Tell whether all ranks end now; what is `wanted` counts on rank 0, from the next merge on."""
        self._end_wanted = wanted
        return self._end_agreed and not self._over

    def leave(self) -> None:
        """Tell the other ranks, without waiting for them, that this one merges no more."""
        if self._tree is not None and not self._over:
            self._over = True
            self._tree.end()
            self._tree.close()
            self._say_left_out()

    def _end(self, step: int, error: LostError) -> None:
        """Watch this rank by itself from now on; rank 0 says so, or, when that one is lost, who was told first."""
        self._over = True
        self._session.schedule.alone()
        self._note(alone_from=step)
        rank = torch.distributed.get_rank() if self._tree is None else self._tree.rank
        if self._tree is not None:
            self._tree.close()
        if rank == 0 or (rank == 1 and error.rank == 0 and error.why != "is not watched any more"):
            print(  # noqa: T201
                f"unstuck: {error}: from step {step} on rank {rank} is watched by itself; the training goes on",
                file=sys.stderr,
            )

    def _say_left_out(self) -> None:
        """On rank 0: say how much of the network it never had, for whoever reads that there is no fault."""
        self._names.refresh()
        if left := len(self._others_own.difference(self._names.index)):
            print(  # noqa: T201
                f"unstuck: {left} layers, parameters and other places are on later ranks alone, as with a pipeline: "
                "of these the report knows nothing",
                file=sys.stderr,
            )

    def _note(self, alone_from: int | None = None) -> None:
        tree = self._tree
        told = {} if tree is None else {"ranks": tree.size, "merged_bytes": tree.nbytes}
        self._session.schedule.ledger.exchanged = {**told, "alone_from": alone_from}

    # -- what this rank brings -------------------------------------------------------------------------------------

    def _part(self, step: int, tree: Tree) -> Part:
        self._names.refresh()
        if self._merges < 2 or self._merges % 8 == 0:  # a model may be wrapped, or first run, late
            self._spread = spread_of(self._session.models)
        rows = self._rows(step, tree.rank)
        objectives, loss = self._objectives(step)
        prints, digest = self._prints(tree.rank)
        rows_bad = int((rows.bad[~np.isin(rows.roles, _PARAMETER_NUMBERS)] > 0).sum())
        record = [tree.rank, loss, self._nonfinite_since, self._data(step), digest, rows_bad, tree.nbytes]
        return Part(step, rows, objectives, self._calls(step), prints, np.array([record], dtype=np.float64))

    def _rows(self, step: int, rank: int) -> Rows:
        late, late_table = rows_of(self._trace, self._last, self._known) if self._known else ([], SummaryTable.of([]))
        keys, table = rows_of(self._trace, step)
        self._keys = set(keys)
        whole = {key[0]: self._held(key[0]) for key in [*late, *keys] if key[1] in PARAMETER_ROLES}
        every = [*((self._last, key) for key in late), *((step, key) for key in keys)]
        wanted = [row for row, (_, key) in enumerate(every) if whole.get(key[0]) is not Held.AGAIN]
        chosen = [every[row] for row in wanted]
        joined = SummaryTable.joined([late_table, table]).take(wanted)
        if self._spread.tensor_parallel:
            joined = _without_units(joined)
        return Rows.of_rank(
            rank,
            [self._names.of(site) for _, (site, _) in chosen],
            [role for _, (_, role) in chosen],
            [when for when, _ in chosen],
            [whole.get(site) is Held.ONE for _, (site, _) in chosen],
            joined,
        )

    def _held(self, site: int) -> Held:
        parameter = self._session.parameter(site)
        return Held.ONE if parameter is None else held(parameter, self._spread)

    def _objectives(self, step: int) -> tuple[Losses, float]:
        """Return the losses since the last merge, and their mean; note the first that is not finite."""
        new: list[tuple[int, float]] = []
        for when, value in reversed(self._trace.objective.items()):
            if when <= self._last or len(new) == MAX_LOSSES:
                break
            if when <= step:
                new.append((when, value))
        new.reverse()
        bad = [when for when, value in new if not math.isfinite(value)]
        if bad and self._nonfinite_since < 0:
            self._nonfinite_since = float(bad[0])
        entries = [(when, 0, 0, value, None) for when, value in new]
        return Losses.of_rank(entries), float(np.mean([value for _, value in new])) if new else math.nan

    def _calls(self, step: int) -> Losses:
        """Return the values of the step's loss calls, and of its backward calls under the names of their places."""
        entries: list[tuple[int, int, int, float, float | None]] = []
        seen: dict[int, int] = {}
        for call in calls_of(self._trace, step):
            seen[call.site] = number = seen.get(call.site, -1) + 1
            entries.append((step, self._names.of(call.site), number, call.value, call.baseline))
        for site in self._trace.of_kind(Kind.BACKWARD):
            if (values := self._trace.vector(site, "objectives", step)) is not None:
                name = self._names.of(site.index)
                entries += [(step, name, number, value, None) for number, value in enumerate(values.tolist())]
        return Losses.of_rank(entries)

    def _data(self, step: int) -> float:
        """Return a digest of the batch: of the bits of data and targets; -1 where nothing is known of them."""
        known = sorted(
            (self._names.of(site.index), bits)
            for site in self._trace.sites
            if site.kind is not Kind.PARAMETER
            for name in ("data_bits", "target_bits")
            if (bits := self._trace.scalar(site, name, step)) is not None
        )
        return float(zlib.crc32(repr(known).encode())) if known else NOWHERE

    def _prints(self, rank: int) -> tuple[Prints, float]:
        """Return fingerprints of the parameters that every rank has whole, and a digest of them all."""
        whole: dict[int, Tensor] = {}
        if self._merges < ALL_PRINTS or self._merges % 8 == 0:
            for site in self._trace.of_kind(Kind.PARAMETER):
                parameter = self._session.parameter(site.index)
                if parameter is not None and held(parameter, self._spread) is Held.ONE and _dense(parameter):
                    whole[self._names.of(site.index)] = _whole(parameter)
        prints = dict(zip(whole, fingerprints(list(whole.values())), strict=True)) if whole else {}
        digest = float(zlib.crc32(repr(sorted(prints.items())).encode())) if prints else NOWHERE
        return Prints.of_rank(rank, prints), digest

    # -- what becomes of it ----------------------------------------------------------------------------------------

    def _answer(self, data: bytes) -> bytes:
        """On rank 0: enter what all ranks have brought; say which step is sampled next, and whether that is the end."""
        self._names.refresh()
        part = Part.from_bytes(data)
        self._others_own.update(set(part.rows.names.tolist()).difference(self._names.index))
        enter(self._trace, part, self._names.index, self._spread)
        return self._session.schedule.next_common.to_bytes(8, "little", signed=True) + bytes([self._end_wanted])


_PARAMETER_NUMBERS = [number for number, role in enumerate(Role) if role in PARAMETER_ROLES]


def _merged(parts: Mapping[int, bytes]) -> bytes:
    """Return what several ranks have brought as one part; raises LostError for what cannot be one."""
    unpacked = []
    for rank, data in parts.items():
        try:
            unpacked.append(Part.from_bytes(data))
        except PackingError as error:
            why = f"sends numbers that cannot be read ({error}; install one release of unstuck for all ranks)"
            raise LostError(rank, why) from None
    first = unpacked[0].step
    for part in unpacked:
        if part.step != first:
            raise LostError(int(part.record("rank")[0]), f"is at step {part.step} while others are at {first}")
    return Part.merged(unpacked).to_bytes()


def _without_units(table: SummaryTable) -> SummaryTable:
    """Return a table that tells of no single units: of layers that ranks share, each rank's are other ones."""
    return replace(
        table,
        has_units=np.zeros_like(table.has_units),
        unit_starts=np.zeros_like(table.unit_starts),
        unit_sums=table.unit_sums[:, :0],
        unit_ends=table.unit_ends[:, :0],
        unit_counts=table.unit_counts[:, :0],
    )


def _dense(parameter: Tensor) -> bool:
    return parameter.layout is torch.strided and not parameter.is_meta and not parameter.is_quantized


def _whole(parameter: Tensor) -> Tensor:
    whole: Tensor = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return whole.detach()
