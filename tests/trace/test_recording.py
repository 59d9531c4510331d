"""Recording: what goes wrong is said once and costs the training nothing; readers, thinning and size."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from recorded import assert_same, fill, made, site, summary

from unstuck.stats.table import SummaryTable
from unstuck.trace import Role, Trace, recording
from unstuck.trace import trace as limits
from unstuck.trace.recording import WAITING, Recording
from unstuck.trace.store import bytes_of, read
from unstuck.trace.writer import FILL_BYTES, LARGEST_STEP_BYTES, MAX_FILE_BYTES, StoreWriter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "runs" / "run.sqlite"


@pytest.fixture
def begun(path):
    """A recording and the trace that it follows."""
    path.parent.mkdir()
    record, trace = Recording(path), Trace()
    record.follow(trace)
    yield record, trace
    record.close(trace, {})


def train(record: Recording, trace: Trace, steps: range, **arguments) -> None:
    """Fill in steps and hand each over once the one before is written, or has failed."""
    for step in steps:
        before = record.written
        fill(trace, step, **arguments)
        if record.hand_over(trace, {}):
            while record.written == before and record.failure is None:
                time.sleep(0.0005)


class TestTroubles:
    def test_a_file_that_cannot_be_made(self, tmp_path):
        with pytest.raises(Exception, match="unable to open"):
            Recording(tmp_path / "no folder" / "run.sqlite")

    def test_the_disk_is_full(self, begun, capfd):
        record, trace = begun
        train(record, trace, range(5))
        pages = record._writer._number("PRAGMA page_count")
        record._writer._number(f"PRAGMA max_page_count = {pages + 2}")
        train(record, trace, range(5, 40))
        record.close(trace, {})
        said = f"unstuck: cannot go on recording the run to {record.path}: database or disk is full; "
        assert capfd.readouterr().err == f"{said}the training goes on, and what was written can be read\n"
        found = read(record.path).trace
        assert 5 <= len(found.steps) < 40
        assert_same(found, made(len(found.steps)))
        assert len(trace.steps) == 40
        assert trace.journal is None

    def test_the_folder_is_removed(self, begun, capfd):
        record, trace = begun
        train(record, trace, range(5))
        shutil.rmtree(record.path.parent)
        train(record, trace, range(5, 40))
        record.close(trace, {})
        (line,) = capfd.readouterr().err.splitlines()
        assert ": the file is gone; the training goes on" in line
        assert not record.path.parent.exists()
        assert len(trace.steps) == 40

    def test_another_run_takes_its_place(self, begun, capfd):
        record, trace = begun
        train(record, trace, range(5))
        other, second = Recording(record.path), Trace()
        other.follow(second)
        train(record, trace, range(5, 8))
        train(other, second, range(3))
        other.close(second, {})
        assert "the file is gone" in capfd.readouterr().err
        assert_same(read(record.path).trace, made(3))

    def test_a_fault_of_ours(self, begun, capfd, monkeypatch):
        record, trace = begun
        monkeypatch.setattr(StoreWriter, "_write", lambda *_: {}["a"])
        train(record, trace, range(3))
        assert record.failure == "KeyError: 'a'"
        assert capfd.readouterr().err.count("\n") == 1

    def test_a_sample_that_is_too_large(self, begun, capfd, monkeypatch):
        record, trace = begun
        train(record, trace, range(3))
        trace.add_step(3)
        trace.add_vector(3, 0, "huge", np.zeros(LARGEST_STEP_BYTES // 8 + 1))
        record.hand_over(trace, {})
        record.close(trace, {})
        assert "one sample of this network takes 12 MB" in capfd.readouterr().err
        assert read(record.path).trace.steps == [0, 1, 2]

    def test_another_process_leaves_the_file_alone(self, begun, monkeypatch):
        record, trace = begun
        train(record, trace, range(3))
        with monkeypatch.context() as forked:
            forked.setattr(recording.os, "getpid", lambda: -1)
            fill(trace, 3)
            assert not record.hand_over(trace, {})
            record.close(trace, {})
            record.discard(trace)
        assert record._thread.is_alive()
        assert read(record.path).trace.steps == [0, 1, 2]

    def test_nothing_worth_keeping(self, begun):
        record, trace = begun
        record.discard(trace)
        assert list(record.path.parent.iterdir()) == []


class TestQueue:
    @pytest.fixture
    def held(self, monkeypatch):
        """What lets the writer go on, which waits before each part."""
        go_on, append = threading.Event(), StoreWriter.append

        def waits(self: StoreWriter, part) -> None:
            go_on.wait()
            append(self, part)

        monkeypatch.setattr(StoreWriter, "append", waits)
        yield go_on
        go_on.set()

    @pytest.mark.parametrize("most", [1_000, 50])
    def test_training_never_waits_and_nothing_is_lost(self, begun, held, monkeypatch, most):
        monkeypatch.setattr(limits, "MAX_SAMPLED_STEPS", most)
        record, trace = begun
        given = []
        for step in range(3 * WAITING):
            fill(trace, step)
            given.append(record.hand_over(trace, {}))
        assert given[:WAITING] == [True] * WAITING
        assert not any(given[WAITING + 1 :])
        assert {entry[0] for entry in trace.journal.tables} <= set(trace.steps)
        held.set()
        record.close(trace, {})
        assert_same(read(record.path).trace, made(3 * WAITING))

    def test_the_end_waits_only_so_long(self, begun, held, monkeypatch, capfd):
        monkeypatch.setattr(recording, "CLOSING_SECONDS", 0.01)
        record, trace = begun
        fill(trace, 0)
        record.hand_over(trace, {})
        record.close(trace, {})
        assert "writing takes longer than 0 s" in capfd.readouterr().err
        held.set()
        record._thread.join()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            record._writer._db.execute("SELECT 1")

    def test_a_file_that_sqlite_refuses_is_closed(self, path, monkeypatch):
        """From Python 3.13 on, a connection that is forgotten open is warned of."""
        path.parent.mkdir()
        opened, connect = [], sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: opened.append(connect(*a, **k)) or opened[-1])
        monkeypatch.setattr("unstuck.trace.writer.SCHEMA", "no such statement")
        with pytest.raises(sqlite3.OperationalError):
            StoreWriter(path)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            opened[0].execute("SELECT 1")


class TestBetweenSamples:
    """Losses since the last sampled step are written as well, soon."""

    @pytest.fixture
    def following(self, path, monkeypatch):
        monkeypatch.setattr(recording, "BETWEEN_SECONDS", 0.02)
        path.parent.mkdir()
        record, trace, info = Recording(path), Trace(), {"n": 0}
        record.follow(trace, lambda: dict(info))
        yield record, trace, info
        record.close(trace, {})

    @staticmethod
    def count(trace: Trace, steps: range) -> None:
        """Train without being watched."""
        for step in steps:
            trace.objective[step] = 1.0 / (step + 1)
            trace.facts.backward_calls += 1

    @staticmethod
    def written(record: Recording, parts: int) -> None:
        end = time.monotonic() + 20
        while record.written < parts and record.failure is None and time.monotonic() < end:
            time.sleep(0.005)
        assert record.written >= parts

    def test_nothing_while_nothing_happens(self, following):
        record, trace, _ = following
        fill(trace, 0)
        record.hand_over(trace, {"n": 0})
        time.sleep(0.2)
        assert record.written == 1

    def test_nor_where_nobody_says_what_the_run_is(self, begun, monkeypatch):
        monkeypatch.setattr(recording, "BETWEEN_SECONDS", 0.02)
        record, trace = begun
        train(record, trace, range(1))  # the wait of before has ended
        self.count(trace, range(1, 50))
        time.sleep(0.2)
        assert record.written == 1

    def test_a_run_that_hangs_is_on_disk_as_it_is(self, following):
        record, trace, info = following
        fill(trace, 0)
        record.hand_over(trace, {"n": 0})
        self.written(record, 1)
        self.count(trace, range(1, 500))
        info["n"] = 500
        self.written(record, 2)
        end = time.monotonic() + 20
        while read(record.path).info["n"] < 500 and time.monotonic() < end:
            time.sleep(0.01)
        found = read(record.path)
        assert found.trace.steps == [0]
        assert list(found.trace.objective.items()) == list(trace.objective.items())
        assert found.info["n"] == 500
        assert found.trace.facts.backward_calls == trace.facts.backward_calls

    def test_while_the_training_thread_goes_on_everything_stays_in_order(self, following, monkeypatch):
        monkeypatch.setattr(recording, "BETWEEN_SECONDS", 0.001)
        monkeypatch.setattr(limits, "MAX_LOSSES", 3_000)
        record, trace, _ = following
        step = 0
        for sampled in range(20):
            fill(trace, step)
            record.hand_over(trace, {})
            self.count(trace, range(step + 1, step + 400))
            step += 400
            if sampled % 5 == 0:
                time.sleep(0.03)
        record.close(trace, {"ended": "now"})
        assert record.failure is None
        assert_same(read(record.path).trace, trace)

    def test_a_fault_of_ours_is_said_once(self, following, capfd):
        record, trace, info = following
        record._following = trace, lambda: info["what"]
        self.count(trace, range(3))
        end = time.monotonic() + 20
        while record.failure is None and time.monotonic() < end:
            time.sleep(0.01)
        assert record.failure == "KeyError: 'what'"
        assert capfd.readouterr().err.count("\n") == 1


def test_losses_that_come_one_by_one_are_joined(begun, monkeypatch):
    monkeypatch.setattr("unstuck.trace.writer.LOSS_ROWS", 8)
    record, trace = begun
    train(record, trace, range(40))
    record.close(trace, {})
    db = sqlite3.connect(record.path)
    assert db.execute("SELECT count(*) FROM losses").fetchone()[0] < 8
    db.close()
    assert_same(read(record.path).trace, made(40))


def test_what_is_said_of_the_run_is_the_latest(begun):
    record, trace = begun
    fill(trace, 0)
    record.hand_over(trace, {"a": 1, "b": [1]})
    fill(trace, 1)
    record.hand_over(trace, {"a": 2, "b": [1]})
    record.close(trace, {"ended": "now"})
    info = dict(read(record.path).info)
    assert info.pop("facts")["backward_calls"] == 2
    assert info == {"a": 2, "b": [1], "ended": "now"}


def test_two_processes_read_while_one_writes(begun):
    sys.path.insert(0, str(ROOT))
    from zoo.forked import python

    sys.path.remove(str(ROOT))
    record, trace = begun
    fill(trace, 0)
    record.hand_over(trace, {})
    last, counts = 60, []
    program = [str(Path(__file__).with_name("reading.py")), str(record.path), str(last)]
    marks = [record.path.with_name(f"reader {k}") for k in range(2)]

    def reads(mark: Path) -> None:
        counts.append(python([*program, str(mark)], time_limit=60))

    readers = [threading.Thread(target=reads, args=(mark,)) for mark in marks]
    for reader in readers:
        reader.start()
    step = 1
    while any(reader.is_alive() for reader in readers):
        if step <= last and all(mark.exists() for mark in marks):
            fill(trace, step)
            record.hand_over(trace, {})
            step += 1
        time.sleep(0.004)
    assert [(done.returncode, done.stderr) for done in counts] == [(0, ""), (0, "")]
    assert all(int(done.stdout) > 5 for done in counts)
    assert record.failure is None
    record.close(trace, {})
    assert_same(read(record.path).trace, made(last + 1))


class TestSize:
    def test_a_run_of_large_samples(self, begun):
        """What the trace in memory keeps of samples of 6 MB is more than a file may take."""
        record, trace = begun
        rng = np.random.default_rng(0)
        trace.sites = [site(k) for k in range(600)]
        table = SummaryTable.of([summary(rng) for _ in range(20)]).take([k % 20 for k in range(12_000)])
        keys = [(k % 600, list(Role)[k // 600 % 6]) for k in range(12_000)]
        largest = 0
        for step in range(30):
            before = record.written
            trace.add_step(step)
            trace.add_table(step, keys, table, replace=True)
            trace.objective[step] = 1.0
            assert record.hand_over(trace, {})
            while record.written == before:
                assert record.failure is None
                time.sleep(0.0005)
            largest = max(largest, bytes_of(record.path))
        assert FILL_BYTES < largest <= MAX_FILE_BYTES
        record.close(trace, {})
        found = read(record.path).trace
        assert {0, 29} < set(found.steps) < set(trace.steps)
        assert len(found.objective) == 30

    @pytest.mark.parametrize("steps", [150_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
    def test_a_long_run(self, begun, steps):
        record, trace = begun
        rng = np.random.default_rng(0)
        table = SummaryTable.of([summary(rng, 100) for _ in range(30)])
        keys = [(k, Role.INPUT) for k in range(30)]
        trace.sites = [site(k) for k in range(30)]
        sampled = {*range(10), *range(10, steps, 400)}
        largest = 0
        for step in range(steps):
            trace.objective[step] = 1.0 / (step + 1)
            if step in sampled:
                trace.add_step(step)
                trace.add_table(step, keys, table)
                record.hand_over(trace, {})
                largest = max(largest, bytes_of(record.path))
        record.close(trace, {})
        assert record.failure is None
        assert largest <= MAX_FILE_BYTES
        found = read(record.path).trace
        assert found.steps == trace.steps
        assert found.steps[:10] == list(range(10))
        assert list(found.objective.items()) == list(trace.objective.items())
        assert bytes_of(record.path) <= MAX_FILE_BYTES
