"""What was entered into a trace since somebody last asked, in order, so that it can be written elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unstuck.stats.table import SummaryTable
from unstuck.trace.sites import Key

TableEntry = tuple[int, Sequence[Key], SummaryTable, Sequence[int], bool]
"""The arguments of `Trace.add_table`: step, keys, table, rows, whether they replace earlier ones."""


@dataclass
class Journal:
    """Entries of a trace: `steps` sampled, `dropped` by thinning, and the numbers with their step and site.

    `losses_thinned` says that the trace forgot some values of the objective, `losses_from` from which step on others
    have taken the place of some.
    """

    steps: list[int] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    losses_thinned: bool = False
    losses_from: int | None = None
    tables: list[TableEntry] = field(default_factory=list)
    scalars: list[tuple[int, int, str, float]] = field(default_factory=list)
    vectors: list[tuple[int, int, str, npt.NDArray[np.float64]]] = field(default_factory=list)

    def forget_dropped(self) -> None:
        """Let go of the numbers of dropped steps."""
        dropped = self.dropped
        self.steps = [step for step in self.steps if step not in dropped]
        self.tables = [entry for entry in self.tables if entry[0] not in dropped]
        self.scalars = [entry for entry in self.scalars if entry[0] not in dropped]
        self.vectors = [entry for entry in self.vectors if entry[0] not in dropped]
