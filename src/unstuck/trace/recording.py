"""Records a run while it trains: the training thread hands over what is new, another one writes it, in order."""

from __future__ import annotations

import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unstuck.trace.journal import Journal
from unstuck.trace.store import StoreError, files_of
from unstuck.trace.trace import LossCall, Trace
from unstuck.trace.writer import Part, StoreWriter

WAITING = 32  # parts that may wait to be written; beyond that they grow larger instead of more
CLOSING_SECONDS = 30.0  # that the end of a run waits for its last parts to be written


class Recording:
    """A file that grows with a run. Raises OSError, sqlite3.Error or StoreError when it cannot be made.

    What goes wrong later (the disk is full, the folder is gone) is said once on standard error; nothing is written from
    then on, and the training goes on. `failure` then says what it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.failure: str | None = None
        self.written = 0  # parts
        self._writer = StoreWriter(self.path)
        self._parts: queue.Queue[Part | None] = queue.Queue(WAITING)
        self._process = os.getpid()
        self._edges = 0
        self._last_loss = -1
        self._last_call: LossCall | None = None
        self._thread = threading.Thread(target=self._work, name="unstuck-recording", daemon=True)
        self._thread.start()

    def follow(self, trace: Trace) -> None:
        """Keep a journal of what is entered into a trace from now on."""
        trace.journal = Journal()

    def hand_over(self, trace: Trace, info: Mapping[str, Any]) -> bool:
        """Give what is new since the last time to be written; False when too much of that waits already.

        `info` is plain data, or dataclasses of it, that is not changed afterwards.
        """
        if trace.journal is None or self._process != os.getpid():
            return False
        if self.failure is not None:
            trace.journal = None
            return False
        if self._parts.full():
            if trace.journal.dropped:
                trace.journal.forget_dropped()
            return False
        self._parts.put_nowait(self._part(trace, info))
        return True

    def close(self, trace: Trace, info: Mapping[str, Any]) -> None:
        """Write what is left and end the file; waits for that."""
        if self._process != os.getpid() or not self._thread.is_alive():
            return
        try:
            if trace.journal is not None and self.failure is None:
                self._parts.put(self._part(trace, info), timeout=CLOSING_SECONDS)
            self._parts.put(None, timeout=CLOSING_SECONDS)
            self._thread.join(CLOSING_SECONDS)
        except queue.Full:
            pass
        trace.journal = None
        if self._thread.is_alive():
            self._fail(TimeoutError(f"writing takes longer than {CLOSING_SECONDS:.0f} s"))

    def discard(self, trace: Trace) -> None:
        """End without a file: there was nothing worth keeping."""
        self.close(trace, {})
        if self.failure is None and self._process == os.getpid():
            for file in files_of(self.path):
                file.unlink(missing_ok=True)

    def _part(self, trace: Trace, info: Mapping[str, Any]) -> Part:
        journal, trace.journal = trace.journal or Journal(), Journal()
        edges = frozenset(trace.edges) if len(trace.edges) != self._edges else None
        self._edges = len(trace.edges)
        sites = [vars(site).copy() for site in trace.sites]
        return Part(
            journal, sites, edges, self._losses(trace, journal), self._loss_calls(trace), replace(trace.facts), info
        )

    def _losses(self, trace: Trace, journal: Journal) -> list[tuple[int, float]]:
        """Return the values of the objective from the last one given on, or all when some were forgotten."""
        if journal.losses_thinned:
            new = list(trace.objective.items())
        else:
            new = []
            for step, value in reversed(trace.objective.items()):
                if step < self._last_loss:
                    break
                new.append((step, value))
            new.reverse()
        if new:
            self._last_loss = new[-1][0]
        return new

    def _loss_calls(self, trace: Trace) -> list[LossCall]:
        new: list[LossCall] = []
        last = self._last_call
        for call in reversed(trace.loss_calls):
            if call is last or (last is not None and call.step < last.step):
                break
            new.append(call)
        new.reverse()
        if new:
            self._last_call = new[-1]
        return new

    # -- the other thread --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (part := self._parts.get()) is not None:
            if self.failure is not None:
                continue
            try:
                self._writer.append(part)
            except Exception as error:  # noqa: BLE001  (whatever it is, it must not end the user's training)
                self._fail(error)
                self._writer.abandon()
            else:
                self.written += 1
            del part
        if self.failure is None:
            self._writer.close()

    def _fail(self, error: Exception) -> None:
        known = isinstance(error, OSError | sqlite3.Error | StoreError)
        reason = getattr(error, "strerror", None) or str(error)
        self.failure = reason if known else f"{type(error).__name__}: {error}"
        print(  # noqa: T201
            f"unstuck: cannot go on recording the run to {self.path}: {self.failure}; "
            "the training goes on, and what was written can be read",
            file=sys.stderr,
        )
