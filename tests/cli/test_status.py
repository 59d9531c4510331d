"""The line that `unstuck run` shows on a terminal while a script trains: when it is shown, and what it says."""

from __future__ import annotations

import io
import os
import sys
import time

import pytest

from unstuck.cli import status
from unstuck.cli.status import StatusLine, usable

from .terminal import FakeRun, attached, screen


class TestNotShown:
    """Where it could mix with something, or nobody would see it."""

    @pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": None}, {"RANK": "1"}, {"SLURM_PROCID": "1"}])
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
