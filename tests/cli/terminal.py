"""A terminal for tests: what is written to it, and what it then shows."""

from __future__ import annotations

import functools
import io
import os
import pty
import re
import sys
import termios
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest


def screen(text: str) -> list[str]:
    """The lines that a terminal shows after this text: newline, return and erasure to the end of the line alone."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[K|\x1b\[[\d;]*m|[\s\S]", text):
        if token == "\x1b[K":
            lines[row] = lines[row][:column]
        elif token == "\n":
            row += 1
            lines += [""] if row == len(lines) else []
        elif token == "\r":
            column = 0
        elif not token.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + 1 :]
            column += 1
    return lines


class Terminal:
    """A pseudoterminal whose other end is read by a thread, as a person would."""

    def __init__(self) -> None:
        self.inner, self.outer = pty.openpty()[::-1]
        termios.tcsetwinsize(self.inner, (24, 80))
        self.written = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.outer, 65536)
            except OSError:
                return
            if not data:
                return
            self.written += data

    def stream(self, *, unbuffered: bool = False, line_buffering: bool = True) -> io.TextIOWrapper:
        """A standard stream as the interpreter makes it."""
        raw = io.FileIO(self.inner, "wb", closefd=False)
        lower = raw if unbuffered else io.BufferedWriter(raw, 1024)
        made = io.TextIOWrapper(lower, "utf-8", "strict", "\n", line_buffering=line_buffering, write_through=unbuffered)
        made.mode = "w"
        return made

    def close(self) -> None:
        os.close(self.inner)
        self.reader.join(5)
        os.close(self.outer)

    def text(self) -> str:
        """What was written by now, all of it read."""
        termios.tcdrain(self.inner)
        size = -1
        while size != len(self.written):
            size = len(self.written)
            time.sleep(0.03)
        return self.written.decode()


def attached(test: Callable) -> Callable:
    """Let a test have the terminal as its standard streams, which pytest would take back after a fixture."""

    @functools.wraps(test)
    def wrapped(*arguments: object, terminal: Terminal, **fixtures: object) -> None:
        names = ("stdout", "stderr", "__stdout__", "__stderr__")
        with pytest.MonkeyPatch.context() as here:
            for name, stream in zip(names, 2 * [terminal.stream(), terminal.stream()], strict=True):
                here.setattr(sys, name, stream)
            test(*arguments, terminal=terminal, **fixtures)

    return wrapped


class FakeRun:
    """As much of a run as the line asks for: a step and a loss more each time."""

    def __init__(self, codes: tuple[str, ...] = ()) -> None:
        self.session = SimpleNamespace(steps=0, trace=SimpleNamespace(objective={}), when_sampled=None)
        self.judged = 0
        self.codes = codes

    def step(self, loss: float = 2.5) -> None:
        self.session.trace.objective[self.session.steps] = loss
        self.session.steps += 1
        if self.session.when_sampled is not None:
            self.session.when_sampled()

    def report(self) -> SimpleNamespace:
        self.judged += 1
        roots = [SimpleNamespace(code=code, name="x", severity=2) for code in self.codes]
        return SimpleNamespace(causes=[SimpleNamespace(root=root) for root in roots])
