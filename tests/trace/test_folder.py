"""Where runs lie: names, links to other places, and which go when there are too many."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.trace import folder
from unstuck.trace.folder import FOLDER, describe, find, forget, link, listed, new_path, prune
from unstuck.trace.store import StoreError
from unstuck.trace.writer import StoreWriter

GONE = 999_999_999  # no process has this number


def stored(path, when: int, *, ended: bool = True, process: int = GONE):
    """Write a run that began at a millisecond."""
    writer = StoreWriter(path)
    info = {"run": {"started": "2026-01-01T00:00:00+00:00", "title": "a.py"}, "process": process}
    info["begun"] = 1767225600 + 0.001 * when  # all in one second
    for key, value in {**info, **({"ended": "now"} if ended else {})}.items():
        writer._db.execute("INSERT INTO info VALUES (?, ?)", (key, json.dumps(value)))
    writer.close()
    return path


@pytest.fixture
def runs(tmp_path):
    """Five runs, the latest first."""
    new_path("x", tmp_path).unlink()
    return [stored(tmp_path / FOLDER / f"{name}.sqlite", 5 - k) for k, name in enumerate("abcde")]


def names(place) -> str:
    return "".join(sorted(path.stem for path in (place / FOLDER).glob("*.sqlite")))


class TestNames:
    @given(st.text(max_size=300))
    def test_any_title_makes_one_in_the_folder(self, tmp_path_factory, title):
        place = tmp_path_factory.mktemp("place")
        path = new_path(title, place)
        assert path.parent == place / FOLDER
        assert path.is_file()
        assert path.suffix == ".sqlite"

    def test_two_that_begin_in_one_second(self, tmp_path):
        first, second = new_path("a/train.py", tmp_path), new_path("a/train.py", tmp_path)
        assert first != second
        assert listed(tmp_path) == []  # nothing is in them yet

    def test_the_latest_is_the_one_begun_last_whichever_was_changed_last(self, tmp_path, runs):
        os.utime(runs[4], (2e9, 2e9))
        assert find("latest", tmp_path) == runs[0]

    def test_those_in_folders_of_their_own_are_listed_by_the_folder(self, tmp_path, runs):
        for place in ("saved", ".unstuck/demo/after", "too/deep"):
            (tmp_path / place).mkdir(parents=True)
            stored(tmp_path / place / "run.sqlite", 9)
        assert {run.name for run in listed(tmp_path)} == {*"abcde", "saved", "after"}
        assert find("after", tmp_path) == tmp_path / ".unstuck" / "demo" / "after" / "run.sqlite"


class TestFewer:
    def test_nothing_goes_while_there_are_no_more(self, tmp_path, runs):
        prune(tmp_path, runs=6, nbytes=1 << 30)
        assert names(tmp_path) == "abcde"

    def test_nor_one_that_runs_whatever_the_limits(self, tmp_path):
        new_path("x", tmp_path).unlink()
        stored(tmp_path / FOLDER / "a.sqlite", 1, ended=False, process=os.getpid())
        stored(tmp_path / FOLDER / "b.sqlite", 2)
        stored(tmp_path / FOLDER / "c.sqlite", 3, ended=False)
        prune(tmp_path, runs=1, nbytes=0)
        assert names(tmp_path) == "a"

    def test_nor_one_that_is_just_beginning(self, tmp_path):
        path = new_path("x", tmp_path)
        prune(tmp_path, runs=1, nbytes=0)
        assert path.exists()
        StoreWriter(path).close()
        prune(tmp_path, runs=1, nbytes=0)
        assert path.exists()
        os.utime(path, (0, 0))
        prune(tmp_path, runs=1, nbytes=0)
        assert not path.exists()

    def test_nor_another_program_s_file(self, tmp_path, runs):
        other = runs[0].with_name("other.sqlite")
        other.write_text("no run")
        prune(tmp_path, runs=1, nbytes=0)
        assert names(tmp_path) == "other"

    def test_nor_what_a_link_leads_to(self, tmp_path):
        saved = stored(tmp_path / "run.sqlite", 1)
        link(saved, "a.py", tmp_path)
        prune(tmp_path, runs=1, nbytes=0)
        assert names(tmp_path) == ""
        assert saved.exists()

    @pytest.mark.parametrize(("count", "left"), [(5, "abcd"), (3, "ab"), (1, "")])
    def test_the_oldest_go_for_one_more_to_come(self, tmp_path, runs, count, left):
        prune(tmp_path, runs=count, nbytes=1 << 30)
        assert names(tmp_path) == left

    def test_and_those_that_take_too_much_room(self, tmp_path, runs):
        each = runs[0].stat().st_size
        prune(tmp_path, runs=50, nbytes=3 * each)
        assert names(tmp_path) == "abc"
        prune(tmp_path, runs=50, nbytes=3 * each - 1)
        assert names(tmp_path) == "ab"

    def test_one_that_cannot_be_deleted_stays_and_the_next_goes(self, tmp_path, runs, monkeypatch):
        delete = folder.remove

        def remove(run) -> None:
            if run.path == runs[4]:
                raise PermissionError(13, "no")
            delete(run)

        monkeypatch.setattr(folder, "remove", remove)
        prune(tmp_path, runs=4, nbytes=1 << 30)
        assert names(tmp_path) == "abe"


class TestForget:
    def test_not_with_a_run_in_it(self, tmp_path, runs):
        forget(runs[0])
        assert names(tmp_path) == "abcde"

    def test_nor_with_something_else_beside_it(self, tmp_path):
        path = new_path("x", tmp_path)
        path.unlink()
        (tmp_path / ".unstuck" / "demo").mkdir()
        forget(path)
        assert sorted(p.name for p in (tmp_path / ".unstuck").iterdir()) == [".gitignore", "demo"]

    def test_nor_a_folder_that_is_not_ours(self, tmp_path):
        forget(tmp_path / "run.sqlite")
        assert tmp_path.is_dir()

    def test_else_the_folders_go(self, tmp_path):
        path = new_path("x", tmp_path)
        path.unlink()
        forget(path)
        assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_says_so(tmp_path):
    path = stored(tmp_path / "a.sqlite", 1)
    path.write_bytes(path.read_bytes()[:3000])
    assert describe(path).trouble.startswith(f"cannot read {path}")
    with pytest.raises(StoreError, match="there is no stored run 'b'"):
        find("b", tmp_path)


def test_a_folder_stands_for_the_only_run_in_it(tmp_path):
    place = tmp_path / "project"
    place.mkdir()
    with pytest.raises(StoreError, match=f"no run is stored in {place}; name a folder that has one"):
        find(str(place), tmp_path)
    first = stored(new_path("a", place), 1)
    assert find(str(place), tmp_path) == first.resolve()
    second = stored(new_path("b", place), 2)
    with pytest.raises(StoreError, match=f"{place} has 2 runs; name one, for example the latest: {second}"):
        find(str(place), tmp_path)
