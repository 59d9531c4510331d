"""The line that `unstuck run` shows on a terminal while a script trains."""
# ruff: noqa: T201  (scripts print)

from __future__ import annotations

import functools
import io
import logging
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from unstuck.cli import status
from unstuck.cli.status import StatusLine, usable

OURS = re.compile(r"\r\x1b\[K(unstuck: step [^\r\n]*(?=\r\x1b\[K))?")


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


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(status, "INTERVAL", 0.0)
    yield made
    made.close()


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


class TestNotShown:
    """Where it could mix with something, or nobody would see it."""

    @pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": None}, {"RANK": "1"}])
    @attached
    def test_by_the_environment(self, terminal, monkeypatch, variables):
        assert usable()
        for name, value in variables.items():
            monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
        assert not usable()

    @attached
    def test_standard_error_is_no_terminal(self, terminal, monkeypatch, tmp_path):
        with open(tmp_path / "err", "w") as file:
            monkeypatch.setattr(sys, "stderr", file)
            assert not usable()

    @attached
    def test_standard_output_is_a_pipe_whose_reader_may_write_anywhere(self, terminal, monkeypatch):
        reading, writing = os.pipe()
        with open(writing, "w") as pipe:
            monkeypatch.setattr(sys, "stdout", pipe)
            assert not usable()
        os.close(reading)

    @pytest.mark.parametrize("stream", [None, io.StringIO()])
    @pytest.mark.parametrize("name", ["stdout", "stderr"])
    @attached
    def test_a_stream_that_somebody_replaced(self, terminal, monkeypatch, name, stream):
        monkeypatch.setattr(sys, name, stream)
        assert not usable()

    @attached
    def test_a_closed_stream(self, terminal):
        sys.stdout.close()
        assert not usable()

    @attached
    def test_nothing_is_written_nor_replaced(self, terminal, monkeypatch):
        monkeypatch.setenv("TERM", "dumb")
        before, run = sys.stdout, FakeRun()
        with StatusLine(run):
            assert sys.stdout is before
            run.step()
        assert terminal.text() == ""

    @attached
    def test_when_it_is_not_wanted(self, terminal):
        run = FakeRun()
        with StatusLine(run, wanted=False):
            run.step()
        assert terminal.text() == ""

    @pytest.mark.parametrize("device", ["file", "/dev/null"])
    @attached
    def test_but_it_is_with_output_in_a_file(self, terminal, monkeypatch, tmp_path, device):
        run = FakeRun()
        with open(tmp_path / "out" if device == "file" else device, "w") as file:
            monkeypatch.setattr(sys, "stdout", file)
            with StatusLine(run):
                assert sys.stdout is file
                run.step()
        assert terminal.text() == "\r\x1b[Kunstuck: step 1, loss 2.5\r\x1b[K"


class TestShown:
    @attached
    def test_step_and_recent_loss(self, terminal):
        run = FakeRun()
        with StatusLine(run):
            for step in range(1_200):
                run.session.trace.objective[step] = float(step)
            run.session.steps = 1_199
            run.step(1_199.0)
            assert screen(terminal.text()) == ["unstuck: step 1,200, loss 1190"]
        assert screen(terminal.text()) == [""]

    @pytest.mark.parametrize(("loss", "shown"), [(float("nan"), "nan"), (float("inf"), "inf")])
    @attached
    def test_a_loss_that_is_not_finite(self, terminal, loss, shown):
        run = FakeRun()
        with StatusLine(run):
            run.step()
            run.step(loss)
            assert screen(terminal.text()) == [f"unstuck: step 2, loss {shown}"]

    @attached
    def test_before_any_loss(self, terminal):
        run = FakeRun()
        with StatusLine(run) as line:
            line.update()
            assert screen(terminal.text()) == ["unstuck: step 0"]

    @pytest.mark.parametrize(
        ("codes", "said"), [((), ", no fault so far"), (("I002", "L001"), ", so far: I002 x, L001 x")]
    )
    @attached
    def test_the_verdict_when_there_has_been_time_for_it(self, terminal, monkeypatch, codes, said):
        run = FakeRun(codes)
        with StatusLine(run) as line:
            run.step()
            assert run.judged == 0
            line._judge_at = 0.0
            run.step()
            run.step()
            assert screen(terminal.text()) == [f"unstuck: step 3, loss 2.5{said}"]
            assert run.judged == 1
            assert line._judge_at > time.perf_counter() + status.FIRST_VERDICT - 5

    @attached
    def test_no_more_often_than_the_interval(self, terminal, monkeypatch):
        monkeypatch.setattr(status, "INTERVAL", 3600.0)
        run = FakeRun()
        with StatusLine(run):
            for _ in range(50):
                run.step()
        assert terminal.text().count("unstuck:") == 1

    @attached
    def test_it_never_wraps(self, terminal, monkeypatch):
        monkeypatch.setenv("COLUMNS", "20")
        run = FakeRun(tuple("ABCDEFGH"))
        with StatusLine(run) as line:
            line._judge_at = 0.0
            run.step()
            assert screen(terminal.text()) == ["unstuck: step 1, lo"]

    @attached
    def test_a_terminal_that_goes_away(self, terminal, monkeypatch):
        run = FakeRun()
        with StatusLine(run) as line:
            line._terminal = 10_000
            run.step()
            run.step()
            line._terminal = terminal.inner
        assert terminal.text() == ""


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
