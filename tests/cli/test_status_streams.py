"""The line that `unstuck run` shows on a terminal never mixes with what the script writes."""
# ruff: noqa: T201  (scripts print)

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from unstuck.cli.status import StatusLine

from .terminal import FakeRun, Terminal, attached, screen

OURS = re.compile(r"\r\x1b\[K(unstuck: step [^\r\n]*(?=\r\x1b\[K))?")


def script_of_every_kind() -> None:
    """Writes as scripts do."""
    print("a line")
    print("part ", end="")
    print("of a line", end="", flush=True)
    print(" ended")
    print("several\nlines", file=sys.stderr)
    for percent in (1, 50, 100):
        print(f"\rbar {percent} %", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    sys.stdout.write("é 名 \U0001f600\n")
    sys.stdout.buffer.write(b"bytes\n")
    sys.stdout.flush()
    sys.__stdout__.write("the first stream\n")
    sys.stdout.writelines(["x" * 3_000, "\n"])
    logging.getLogger("tests.status").warning("logged")
    print("last, without an end", end="")


class TestNeverMixed:
    @attached
    def test_the_script_writes_the_same_bytes_and_the_screen_shows_them_alone(self, terminal):
        handler = logging.StreamHandler(sys.stderr)
        logger = logging.getLogger("tests.status")
        logger.addHandler(handler)
        logger.propagate = False
        try:
            script_of_every_kind()
            sys.stdout.flush()
            alone = terminal.text()
            terminal.written = b""
            run = FakeRun()
            trace = lambda frame, event, _: run.step() or trace  # noqa: E731
            with StatusLine(run):
                run.step()
                threading.settrace(None)
                sys.settrace(lambda frame, event, _: trace if frame.f_code is script_of_every_kind.__code__ else None)
                try:
                    script_of_every_kind()
                finally:
                    sys.settrace(None)
            watched = terminal.text()
            assert handler.stream is sys.stderr
        finally:
            logger.removeHandler(handler)
            logger.propagate = True
        assert watched.count("unstuck: step") > 8
        assert OURS.sub("", watched) == alone
        assert screen(watched) == screen(alone)

    @attached
    def test_it_waits_while_a_line_is_unfinished(self, terminal):
        run = FakeRun()
        with StatusLine(run):
            print("Epoch 1", end="", flush=True)
            run.step()
            assert terminal.text() == "Epoch 1"
            print(": done")
            run.step()
            assert screen(terminal.text()) == ["Epoch 1: done", "unstuck: step 2, loss 2.5"]
            print("", end="", flush=True)
            run.step()
            assert screen(terminal.text())[-1] == "unstuck: step 3, loss 2.5"

    @attached
    def test_other_processes_write_below_nothing(self, terminal):
        run = FakeRun()
        with StatusLine(run):
            run.step()
            subprocess.run(["echo", "one"], stdout=terminal.inner, check=True)
            run.step()
            onto_terminal = [(os.POSIX_SPAWN_DUP2, terminal.inner, 1)]
            os.waitpid(os.posix_spawnp("echo", ["echo", "two"], os.environ, file_actions=onto_terminal), 0)
            assert screen(terminal.text()) == ["one", "two", ""]

    @attached
    def test_several_threads(self, terminal):
        run = FakeRun()

        def say(name: str) -> None:
            for number in range(100):
                print(f"{name} {number}\n", end="")

        with StatusLine(run):
            threads = [threading.Thread(target=say, args=(name,)) for name in "ab"]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                run.step()
            for thread in threads:
                thread.join()
        shown = screen(terminal.text())
        for name in "ab":
            assert [line for line in shown if line.startswith(name)] == [f"{name} {number}" for number in range(100)]
        assert len(shown) == 201

    @attached
    def test_a_fork_writes_but_draws_nothing(self, terminal):
        run = FakeRun()
        with StatusLine(run) as line:
            run.step()
            line.forked()
            run.step()
            print("from the fork")
        assert screen(terminal.text()) == ["from the fork", ""]


class TestStreams:
    @pytest.mark.parametrize("options", [{}, {"unbuffered": True}, {"line_buffering": False}])
    @attached
    def test_they_are_of_the_same_kind(self, terminal, monkeypatch, options):
        old = terminal.stream(**options)
        monkeypatch.setattr(sys, "stdout", old)
        with StatusLine(FakeRun()):
            new = sys.stdout
            assert new is not old
            assert type(new) is type(old)
            assert type(new.buffer) is type(old.buffer) or options.get("unbuffered")
            assert new.fileno() == old.fileno()
            for name in ("encoding", "errors", "line_buffering", "write_through", "newlines", "mode"):
                assert getattr(new, name) == getattr(old, name)
            if not options.get("unbuffered"):
                assert new.buffer.__sizeof__() == old.buffer.__sizeof__()
        assert sys.stdout is old

    @attached
    def test_what_is_not_flushed_stays_so_and_is_written_at_the_end(self, terminal, monkeypatch):
        monkeypatch.setattr(sys, "stdout", terminal.stream(line_buffering=False))
        run = FakeRun()
        with StatusLine(run):
            print("kept back")
            run.step()
            assert screen(terminal.text()) == ["unstuck: step 1, loss 2.5"]
        assert screen(terminal.text()) == ["kept back", ""]

    @attached
    def test_one_that_the_script_closed_or_took_apart(self, terminal):
        old = sys.stdout, sys.stderr
        with StatusLine(FakeRun()):
            sys.stdout.close()
            lower = sys.stderr.detach()
        assert (sys.stdout, sys.stderr) == old
        lower.write(b"still there\n")
        lower.flush()
        print("and so are we")
        assert terminal.text().replace("\r\n", "\n") == "still there\nand so are we\n"

    @attached
    def test_one_that_the_script_replaced_stays(self, terminal):
        with StatusLine(FakeRun()):
            sys.stdout = own = io.StringIO()
        assert sys.stdout is own

    @attached
    def test_one_kept_beyond_the_end_still_writes(self, terminal):
        with StatusLine(FakeRun()) as line:
            kept = sys.stdout
        line.close()
        print("late", file=kept)
        assert terminal.text() == "late\r\n"


@pytest.fixture
def on_a_terminal(script) -> Callable[..., str]:
    """Run `unstuck run` as a process whose standard streams are a terminal; returns what was written there."""

    def run(*arguments: object) -> str:
        made = Terminal()
        subprocess.run(
            [sys.executable, "-m", "unstuck", "run", *map(str, arguments)],
            stdin=made.inner,
            stdout=made.inner,
            stderr=made.inner,
            env={**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""},
            check=True,
        )
        text = made.text()
        made.close()
        return text

    return run


TRAINS = """
    import time, torch
    print("begin")
    w = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    for step in range(12):
        optimizer.zero_grad()
        ((w - 1) ** 2).sum().backward()
        optimizer.step()
        time.sleep(0.06)
        if step % 4 == 3:
            print("step", step)
"""


def test_a_real_run(on_a_terminal, script):
    path = script(TRAINS)
    shown = on_a_terminal("--every", 1, path)
    assert "unstuck: step 1, loss 3" in shown
    assert screen(shown)[:6] == [
        "begin", "step 3", "step 7", "step 11", "", "unstuck: no fault found in 12 steps of train.py"
    ]  # fmt: skip
    plain = on_a_terminal("--every", 1, "--no-progress", path)
    assert "unstuck: step" not in plain
    cost = r"watching cost.*"
    assert re.sub(cost, "", OURS.sub("", shown)) == re.sub(cost, "", plain)
