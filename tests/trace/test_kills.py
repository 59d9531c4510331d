"""A recording process that is killed, at any moment, loses at most the last sampled step."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

import pytest
from killed import MAX_STEPS
from recorded import assert_same, made

from unstuck.trace import Trace
from unstuck.trace import trace as limits
from unstuck.trace.store import StoreError, read

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("killed.py")
KILLS, KILLS_BY_DEFAULT = 60, 6


@pytest.fixture(scope="module")
def forked():
    sys.path.insert(0, str(ROOT))
    from zoo import forked

    sys.path.remove(str(ROOT))
    return forked


def killed(forked, folder: Path, delay: float) -> tuple[Path, int]:
    """Run the program for some seconds; return its file and the last step that it handed over, -1 for none."""
    folder.mkdir()
    path, log = folder / "run.sqlite", folder / "log"

    def kill_later(process) -> None:
        timer = threading.Timer(delay, process.kill)
        timer.daemon = True
        timer.start()

    done = forked.python([str(PROGRAM), str(path), str(log)], started=kill_later, time_limit=60)
    assert (done.returncode, done.stderr) == (-9, "")
    steps = log.read_text().split() if log.exists() else []
    return path, int(steps[-1]) if steps else -1


def assert_nothing_lost(path: Path, handed_over: int) -> int:
    """The file is the trace as it was after a step: the last one handed over, the one before or the one after."""
    try:
        trace = read(path).trace
    except StoreError:
        trace = Trace()
    if not trace.steps:
        assert handed_over < 1
        return -1
    last = trace.steps[-1]
    assert handed_over - 1 <= last <= handed_over + 1
    expected = made(last + 1)
    assert len(expected.steps) <= MAX_STEPS
    assert_same(trace, expected)
    return last


def kills(forked, folder: Path, monkeypatch, seed: int, count: int) -> list[int]:
    monkeypatch.setattr(limits, "MAX_SAMPLED_STEPS", MAX_STEPS)
    rng = random.Random(seed)
    delays = [0.03 + 0.4 * rng.random() for _ in range(count)]
    return [assert_nothing_lost(*killed(forked, folder / str(k), delay)) for k, delay in enumerate(delays)]


def test_some_kills(forked, tmp_path, monkeypatch):
    lasts = kills(forked, tmp_path, monkeypatch, 1, KILLS_BY_DEFAULT)
    assert max(lasts) > 0


@pytest.mark.slow
def test_many_kills(forked, tmp_path, monkeypatch):
    lasts = kills(forked, tmp_path, monkeypatch, 2, KILLS)
    assert max(lasts) > MAX_STEPS
    assert len(set(lasts)) > KILLS / 2
