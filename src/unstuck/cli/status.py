"""One line about the run at the bottom of the terminal, gone whenever the script itself writes.

The standard streams are replaced by ones of the same kind whose lowest layer takes the line away first. What the
script writes, and when that is flushed, stays the same; writes that go past Python's streams are not seen, other than
those of processes that Python starts.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from unstuck.api import Run
from unstuck.findings import Severity
from unstuck.ranks import own_rank

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

INTERVAL = 0.25  # seconds between two drawings, at least
FIRST_VERDICT = 10.0  # seconds of running before the run is judged for the first time
SHARE = 0.002  # of the time that judging may take
RECENT = 20  # losses that are averaged
CLEAR = b"\r\x1b[K"  # ECMA-48: to the first column, erase to the end of the line

OTHER_WRITERS = {
    "builtins.input",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
}
"""Audit events (https://docs.python.org/3/library/audit_events.html) after which others may write to the terminal."""

_shown_by: list[StatusLine] = []
_hooked = False


class StatusLine:
    """Shows step, recent loss and verdict of a run on standard error while used as a context manager.

    Does nothing where that is no terminal, or where standard output is a pipe, whose reader may write to the same
    terminal at any time.
    """

    def __init__(self, run: Run, *, wanted: bool = True) -> None:
        self._run = run
        self._wanted = wanted
        self._on = self._shown = False
        self._fresh = True  # whether the cursor stands at the beginning of an empty line
        self._lock = threading.RLock()
        self._undo: list[Callable[[], None]] = []
        self._drawn = 0.0
        self._judge_at = 0.0
        self._verdict = ""
        self._terminal = -1

    def __enter__(self) -> Self:
        if self._wanted and usable():
            self._terminal = sys.stderr.fileno()
            self._on = True
            self._judge_at = time.perf_counter() + FIRST_VERDICT
            self._replace_streams()
            self._follow()
            _watch_other_writers()
            _shown_by.append(self)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take the line away for good and put the streams back; harmless when called twice."""
        self.make_way()
        self._on = False
        while self._undo:
            self._undo.pop()()
        if self in _shown_by:
            _shown_by.remove(self)

    # -- what is shown ---------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Draw the line anew, unless that was done just now or the script has left a line unfinished."""
        now = time.perf_counter()
        if not self._on or now - self._drawn < INTERVAL or not _in_foreground(self._terminal):
            return
        if now >= self._judge_at:
            self._verdict = _verdict(self._run)
            end = time.perf_counter()
            self._judge_at = end + max(FIRST_VERDICT, (end - now) / SHARE)
        columns = shutil.get_terminal_size().columns
        text = f"unstuck: {_progress(self._run)}{self._verdict}"[: columns - 1]
        self._drawn = now
        with self._lock:
            if self._fresh:
                self._shown = True
                self._write(CLEAR + text.encode("ascii", "replace"))
                if not self._shown and self._fresh:  # a signal's handler has written in between
                    self._write(CLEAR)

    def make_way(self) -> None:
        """Take the line away, for somebody is about to write."""
        with self._lock:
            if self._shown:
                self._shown = False
                self._write(CLEAR)

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._terminal, data)
        except OSError:  # the terminal is gone
            self._on = self._shown = False

    def forked(self) -> None:
        """Draw nothing any more: this is a fork of the watched process."""
        self._on = False
        self._lock = threading.RLock()  # another thread may have held it

    # -- who writes ------------------------------------------------------------------------------------------------

    def write_through(self, write: Callable[[ReadableBuffer], int | None], data: ReadableBuffer) -> int | None:
        """Let the script write to the terminal."""
        with self._lock:
            self.make_way()
            written = write(data)
            if view := bytes(memoryview(data).cast("B")[-1:]):
                self._fresh = view == b"\n"
            return written

    def _replace_streams(self) -> None:
        for name in ("stdout", "stderr"):
            old = getattr(sys, name)
            if not _is_terminal(old) or not _same_file(old.fileno(), self._terminal):
                continue
            old.flush()
            new = _like(old, self)
            for attribute in (name, f"__{name}__"):
                if getattr(sys, attribute) is old:
                    setattr(sys, attribute, new)
                    self._undo.append(lambda attribute=attribute, old=old, new=new: _put_back(attribute, old, new))  # type: ignore[misc]
            self._undo.append(lambda new=new: _flush(new))  # type: ignore[misc]
            for handler in _handlers(old):
                handler.setStream(new)
                self._undo.append(lambda handler=handler, old=old: handler.setStream(old))  # type: ignore[misc]

    def _follow(self) -> None:
        session = self._run.session
        session.when_sampled = self.update
        self._undo.append(lambda: setattr(session, "when_sampled", None))


class _Terminal(io.FileIO):
    """The lowest layer of a standard stream: takes the line away before anything is written."""

    def __init__(self, old: io.FileIO, line: StatusLine) -> None:
        super().__init__(old.fileno(), "wb", closefd=False)
        self.name = old.name
        self._line = line

    def write(self, data: ReadableBuffer, /) -> int | None:  # type: ignore[override]
        return self._line.write_through(super().write, data)


def usable() -> bool:
    """Tell whether the line can be shown without ever mixing with what the script writes."""
    if os.name != "posix" or os.environ.get("TERM", "dumb") == "dumb" or own_rank() > 0:
        return False
    if not _is_terminal(sys.stderr):
        return False
    try:
        out = os.fstat(sys.stdout.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed or replaced
        return False
    return _is_terminal(sys.stdout) or stat.S_ISREG(out) or (stat.S_ISCHR(out) and not sys.stdout.isatty())


def _is_terminal(stream: Any) -> bool:
    """Tell whether a stream is made of the layers that the interpreter gives it, on a terminal."""
    try:
        layers = type(stream) is io.TextIOWrapper and type(stream.buffer) in (io.BufferedWriter, io.FileIO)
        return layers and type(getattr(stream.buffer, "raw", stream.buffer)) is io.FileIO and stream.isatty()
    except (OSError, ValueError):
        return False


def _like(old: io.TextIOWrapper, line: StatusLine) -> io.TextIOWrapper:
    """Return a stream that encodes, buffers and flushes as `old` does."""
    lower: Any = old.buffer
    raw = _Terminal(getattr(lower, "raw", lower), line)
    size = lower.__sizeof__() - type(lower).__basicsize__  # of the buffer, which nothing else tells
    new = io.TextIOWrapper(
        io.BufferedWriter(raw, size) if type(lower) is io.BufferedWriter else raw,
        old.encoding,
        old.errors,
        "\n",  # which the interpreter sets on POSIX
        old.line_buffering,
        old.write_through,
    )
    vars(new).update(vars(old))  # the interpreter sets `mode`
    return new


def _put_back(attribute: str, old: TextIO, new: TextIO) -> None:
    if getattr(sys, attribute) is new:
        setattr(sys, attribute, old)


def _flush(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed, or taken apart
        stream.flush()


def _handlers(stream: object) -> list[logging.StreamHandler[Any]]:
    """Return the log handlers that write to a stream."""
    loggers = [logging.root, *(x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger))]
    handlers = itertools.chain.from_iterable(logger.handlers for logger in loggers)
    return [h for h in dict.fromkeys(handlers) if isinstance(h, logging.StreamHandler) and h.stream is stream]


def _same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def _in_foreground(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it is not our session's
        return True


def _progress(run: Run) -> str:
    losses = list(itertools.islice(reversed(run.session.trace.objective.values()), RECENT))
    loss = f", loss {math.fsum(losses) / len(losses):.4g}" if losses and all(map(math.isfinite, losses)) else ""
    return f"step {run.session.steps:,}{loss or (f', loss {losses[0]:.4g}' if losses else '')}"


def _verdict(run: Run) -> str:
    roots = [cause.root for cause in run.report().causes if cause.root.severity > Severity.INFO]
    return f", so far: {', '.join(f'{root.code} {root.name}' for root in roots)}" if roots else ", no fault so far"


def _watch_other_writers() -> None:
    """Have the line taken away before other processes are started, or the user is asked; once for this process."""
    global _hooked
    if _hooked:
        return
    _hooked = True

    def heard(event: str, _: tuple[object, ...]) -> None:
        if _shown_by and event in OTHER_WRITERS:
            for line in _shown_by:
                line.make_way()

    def forked() -> None:
        for line in _shown_by:
            line.forked()

    sys.addaudithook(heard)
    os.register_at_fork(after_in_child=forked)
