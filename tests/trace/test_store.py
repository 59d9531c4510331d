"""Stored runs: what is none is refused in one line; what is one comes back equal."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest
from recorded import assert_same, fill, made

from unstuck.trace import Trace, store
from unstuck.trace import trace as limits
from unstuck.trace.packing import pack
from unstuck.trace.recording import Recording
from unstuck.trace.store import SCHEMA_VERSION, StoreError, bytes_of, files_of, is_run, read, read_info

STEPS = 12


def recorded(path: Path, steps: int = STEPS, *, each: int = 1, **info) -> Trace:
    """Record a run, handing over each N-th step."""
    recording, trace = Recording(path), Trace()
    recording.follow(trace)
    for step in range(steps):
        fill(trace, step)
        if step % each == 0:
            recording.hand_over(trace, info)
    recording.close(trace, info)
    assert recording.failure is None
    return trace


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("stored") / "run.sqlite"
    recorded(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, stored) -> Path:
    file = tmp_path / "run.sqlite"
    file.write_bytes(stored)
    return file


def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as error:
        read(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def changed(path: Path, *statements: str, values: tuple = ()) -> Path:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement, values)
    db.commit()
    db.close()
    return path


class TestRefused:
    def test_nothing(self, tmp_path):
        assert refusal(tmp_path / "none.sqlite").startswith(f"there is no stored run at {tmp_path / 'none.sqlite'}")
        assert "there is no stored run" in refusal(tmp_path)

    def test_an_empty_file(self, tmp_path):
        (tmp_path / "empty").touch()
        assert "nothing has been recorded in" in refusal(tmp_path / "empty")
        assert not is_run(tmp_path / "empty")

    def test_a_text(self, tmp_path):
        (tmp_path / "text").write_text("not a database, whatever its name says\n" * 99)
        assert refusal(tmp_path / "text").endswith(
            "file is not a database; it is damaged or no stored run; `unstuck runs` lists others"
        )

    def test_somebody_elses_database(self, tmp_path):
        file = changed(tmp_path / "other.sqlite", "CREATE TABLE a (b)")
        assert "is not a run that unstuck has stored" in refusal(file)
        assert not is_run(file)
        with pytest.raises(StoreError, match="left alone"):
            Recording(file)

    def test_a_newer_one(self, path):
        changed(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        assert refusal(path).endswith(f"(layout {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}); update unstuck")
        with pytest.raises(StoreError, match="newer"):
            read_info(path)

    def test_one_cut_off(self, path, stored):
        for length in range(100, len(stored), len(stored) // 23):
            path.write_bytes(stored[:length])
            assert str(path) in refusal(path)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE samples SET data = substr(data, 1, 900)",
            "UPDATE samples SET data = x'00'",
            "UPDATE samples SET data = 'text'",
            "UPDATE losses SET data = zeroblob(30)",
            "DELETE FROM sites WHERE number > 0",
            "DELETE FROM names",
            "DROP TABLE samples",
            "UPDATE sites SET data = '{'",
            "UPDATE sites SET data = '[]'",
            "UPDATE sites SET data = '{\"location\": null}'",
            "UPDATE edges SET consumer = 99",
            "UPDATE info SET value = '{}'",
            "UPDATE info SET value = 'x'",
        ],
    )
    def test_one_that_was_tampered_with(self, path, statement):
        changed(path, statement)
        assert refusal(path).startswith(f"cannot read {path}: ")

    def test_a_blob_of_other_numbers(self, path):
        changed(path, "UPDATE samples SET data = ?", values=(pack({}).replace(b"[]", b"{}"),))
        assert refusal(path).startswith(f"cannot read {path}: ")


class TestEqual:
    def test_everything_comes_back(self, tmp_path):
        trace = recorded(tmp_path / "run.sqlite", run={"title": "a.py"}, fixes=[])
        stored = read(tmp_path / "run.sqlite")
        assert_same(stored.trace, trace)
        assert_same(stored.trace, made(STEPS))
        assert stored.info["run"] == {"title": "a.py"}
        assert read_info(tmp_path / "run.sqlite") == stored.info

    @pytest.mark.parametrize("each", [2, 5, 100])
    def test_of_steps_that_were_handed_over_together(self, tmp_path, each):
        recorded(tmp_path / "run.sqlite", 30, each=each)
        assert_same(read(tmp_path / "run.sqlite").trace, made(30))

    @pytest.mark.parametrize("each", [1, 7])
    @pytest.mark.parametrize(("limit", "value"), [("MAX_SAMPLED_STEPS", 25), ("MAX_BYTES", 60_000), ("MAX_LOSSES", 40)])
    def test_of_a_run_that_was_thinned(self, tmp_path, monkeypatch, limit, value, each):
        monkeypatch.setattr(limits, limit, value)
        if limit == "MAX_LOSSES":
            monkeypatch.setattr(Trace, "_thin_losses", _thin_some_losses)
        recorded(tmp_path / "run.sqlite", 120, each=each)
        expected = made(120)
        assert len(expected.steps) < 120 or len(expected.objective) < 120
        assert_same(read(tmp_path / "run.sqlite").trace, expected)

    def test_a_run_before_its_first_step(self, tmp_path):
        recorded(tmp_path / "run.sqlite", 0, run={"title": "a.py"})
        assert_same(read(tmp_path / "run.sqlite").trace, Trace())

    def test_names_that_are_no_text_elsewhere(self, tmp_path):
        recording, trace = Recording(tmp_path / "run.sqlite"), made(1)
        recording.follow(trace)
        trace.sites[0].path = "\udcff'; DROP TABLE sites; --\x00\u202e🙂" + "x" * 10_000
        fill(trace, 1)
        trace.add_scalar(1, 0, "'\"\x00🙂", 1.0)
        recording.hand_over(trace, {"run": "\udcff"})
        recording.close(trace, {})
        found = read(tmp_path / "run.sqlite")
        assert found.trace.sites == trace.sites
        assert found.trace.scalar(trace.sites[0], "'\"\x00🙂", 1) == 1.0
        assert found.info["run"] == "\udcff"

    def test_the_source_lines_come_along(self, tmp_path):
        recorded(tmp_path / "run.sqlite")
        (file,) = {site.location.file for site in made(1).sites if site.location}
        assert read(tmp_path / "run.sqlite").sources == {file: Path(file).read_text()}


class TestFiles:
    def test_an_ended_run_is_one_file(self, tmp_path):
        path = tmp_path / "run.sqlite"
        recorded(path)
        assert files_of(path) == [path]
        assert bytes_of(path) == path.stat().st_size
        assert is_run(path)

    def test_a_run_takes_the_place_of_an_earlier_one(self, tmp_path):
        path = tmp_path / "run.sqlite"
        recorded(path, 9)
        recorded(path, 3)
        assert read(path).trace.steps == [0, 1, 2]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_in_a_folder_that_cannot_be_written(self, path):
        path.parent.chmod(0o500)
        assert read(path).trace.steps == list(range(STEPS))

    def test_where_nothing_can_be_put_beside_it_a_copy_is_read(self, tmp_path, monkeypatch):
        recording, trace = Recording(tmp_path / "run.sqlite"), Trace()
        recording.follow(trace)
        fill(trace, 0)
        recording.hand_over(trace, {})
        while not recording.written:
            time.sleep(0.001)
        opened, connect = [], store._connect

        def refuses_the_first(path: Path) -> sqlite3.Connection:
            opened.append(path)
            return sqlite3.connect("file:/none/none?mode=ro", uri=True) if len(opened) == 1 else connect(path)

        monkeypatch.setattr(store, "_connect", refuses_the_first)
        assert_same(read(recording.path).trace, made(1))  # which lies in the log still
        assert opened[0] == recording.path
        assert opened[1] != recording.path
        assert not opened[1].exists()
        recording.close(trace, {})


def _thin_some_losses(self: Trace) -> None:
    for step in list(self.objective)[10:-10:2]:
        del self.objective[step]
    if self.journal is not None:
        self.journal.losses_thinned = True
