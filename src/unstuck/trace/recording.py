"""Records a run while it trains: the training thread hands over what is new, another one writes it, in order.

A sampled step is handed over when it is complete. What is known of the steps since then (losses, how many there were)
is fetched by the writing thread itself when nothing has come for a while, so that a run that hangs is on disk as it is.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from unstuck.trace.folder import FILE, FOLDER, new_path, prune
from unstuck.trace.journal import Journal
from unstuck.trace.store import StoreError, files_of
from unstuck.trace.trace import LossCall, Trace
from unstuck.trace.writer import Part, StoreWriter

WAITING = 32  # parts that may wait to be written; beyond that they grow larger instead of more
CLOSING_SECONDS = 30.0  # that the end of a run waits for its last parts to be written
BETWEEN_SECONDS = 2.0  # without a sampled step, after which the losses since are written


class Kept(Protocol):
    """How much is kept below `.unstuck`; see `unstuck.Config`."""

    @property
    def keep_runs(self) -> int: ...  # noqa: D102
    @property
    def keep_megabytes(self) -> int: ...  # noqa: D102


def begin_recording(place: bool | str | os.PathLike[str], title: str, kept: Kept) -> Recording:
    """Begin to record a run: to a file (.sqlite) or folder, or where `place` is True below `.unstuck`.

    There, the oldest finished runs go that are more than is kept. Raises StoreError.
    """
    try:
        if isinstance(place, bool):
            prune(Path.cwd(), runs=kept.keep_runs, nbytes=kept.keep_megabytes << 20)
            return Recording(new_path(title))
        path = Path(os.fspath(place))
        path = path if path.suffix == ".sqlite" else path / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        return Recording(path)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        where = FOLDER if isinstance(place, bool) else place
        raise StoreError(f"cannot record the run in {where}: {reason}; name another folder") from None


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
        self._lock = threading.Lock()  # of what follows: parts are made in the order in which they are written
        self._following: tuple[Trace, Callable[[], Mapping[str, Any]]] | None = None
        self._sites: list[dict[str, Any]] = []
        self._edges = 0
        self._backward_calls = 0
        self._last_loss = -1
        self._last_call: LossCall | None = None
        self._thread = threading.Thread(target=self._work, name="unstuck-recording", daemon=True)
        self._thread.start()

    def follow(self, trace: Trace, info: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Keep a journal of what is entered into a trace from now on.

        Where `info` says what is to be stored beside it, whenever asked and in another thread, losses between samples
        are written as well, every `BETWEEN_SECONDS`.
        """
        trace.journal = Journal()
        self._following = None if info is None else (trace, info)

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
        with self._lock:
            self._parts.put_nowait(self._part(trace, info))
        return True

    def close(self, trace: Trace, info: Mapping[str, Any]) -> None:
        """Write what is left and end the file; waits for that."""
        if self._process != os.getpid() or not self._thread.is_alive():
            return
        self._following = None
        try:
            if trace.journal is not None and self.failure is None:
                with self._lock:
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
        self._sites = [vars(site).copy() for site in trace.sites]
        losses, calls = self._losses(trace, journal), self._loss_calls(trace)
        self._backward_calls = trace.facts.backward_calls
        return Part(journal, self._sites, edges, losses, calls, replace(trace.facts), info)

    def _losses(self, trace: Trace, journal: Journal) -> list[tuple[int, float]]:
        """Return the values of the objective from the last one given on, or all when some were forgotten."""
        if journal.losses_thinned:
            new = list(trace.objective.items())
        else:
            new, changed = [], journal.losses_from
            first = self._last_loss if changed is None else min(changed, self._last_loss)
            for step, value in reversed(trace.objective.items()):
                if step < first:
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

    def _next(self) -> Part | None:
        """Wait for a part, or make one of what the training thread has counted since the last; None at the end."""
        while True:
            try:
                return self._parts.get(timeout=BETWEEN_SECONDS)
            except queue.Empty:
                try:
                    part = self._between()
                except Exception as error:  # noqa: BLE001  (whatever it is, it must not end the user's training)
                    self._fail(error)
                    self._writer.abandon()
                else:
                    if part is not None:
                        return part

    def _between(self) -> Part | None:
        """Return the losses since the last part, if there are new ones and no part waits that comes before them."""
        if self._following is None or self.failure is not None:
            return None
        trace, info = self._following
        calls = trace.facts.backward_calls
        if calls == self._backward_calls or not self._lock.acquire(blocking=False):
            return None
        try:
            if not self._parts.empty():
                return None
            known = trace.objective.copy()  # in one go, for the training thread adds to it
            steps = list(known)
            first = bisect_left(steps, self._last_loss)
            losses = list(zip(steps[first:], list(known.values())[first:], strict=True))
            self._last_loss = steps[-1] if steps else -1
            self._backward_calls = calls
            return Part(Journal(), self._sites, None, losses, [], replace(trace.facts), info())
        finally:
            self._lock.release()

    def _work(self) -> None:
        while (part := self._next()) is not None:
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
        else:
            self._writer.abandon()

    def _fail(self, error: Exception) -> None:
        known = isinstance(error, OSError | sqlite3.Error | StoreError)
        reason = getattr(error, "strerror", None) or str(error)
        self.failure = reason if known else f"{type(error).__name__}: {error}"
        print(  # noqa: T201
            f"unstuck: cannot go on recording the run to {self.path}: {self.failure}; "
            "the training goes on, and what was written can be read",
            file=sys.stderr,
        )
