"""What the pytest plugin does once a test asks for it; `pytest_unstuck.py` registers it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from unstuck.findings import Severity
from unstuck.fixes.task import LossFunction
from unstuck.report import Report
from unstuck.trainable import examine, refuse

LONGEST = 150  # characters of a folder's name; most file systems take 255 bytes


class Trainable:
    """Checks networks for one test; calling it is `unstuck.assert_trainable`, with the report written where asked for.

    `reports` holds what was found, in the order of the calls.
    """

    def __init__(self, test: str, folder: str | None, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.reports: list[Report] = []
        self.folder = None if folder is None else Path(folder) / _named(test)

    def __call__(self, model: nn.Module, batch: Any, loss_fn: LossFunction, **options: Any) -> Report:
        """Check a network as `unstuck.assert_trainable` does, with the same options and errors; returns the report."""
        __tracebackhide__ = True
        report = examine(model, batch, loss_fn, **options)
        self.reports.append(report)
        codes = {f"{f.code} {f.name}": None for f in report.findings if f.severity >= Severity.WARNING}
        said = ", ".join(codes) or "no fault found"
        if self.folder is not None:
            number = len(self.reports)
            folder = self.folder if number == 1 else self.folder / str(number)
            report.save(folder)
            said = f"{said}; report: {folder}"
        self._tell(said)
        refuse(report)
        return report


def _named(test: str) -> str:
    """Return a folder's name for a test's id; of parameters with punctuation, and of long ids, with a checksum."""
    name = re.sub(r"[^\w.\-]+", "-", test).strip("-")
    if len(name) <= LONGEST and not re.search(r"\[.*[^\w.\-].*\]$", test):
        return name
    return f"{name[:LONGEST]}-{zlib.crc32(test.encode()):08x}"
