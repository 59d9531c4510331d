"""Only runs of the folder are found, by their names in its list."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from unstuck.trace.folder import FOLDER, describe
from unstuck.trace.store import is_run
from unstuck.ui import library
from unstuck.ui.library import Library

from .served import RUNNING, change, place


@pytest.fixture
def outside(stored, tmp_path) -> Path:
    return place(stored, tmp_path / "elsewhere", "secret", run={"title": "secret.py"})


class TestRefused:
    @pytest.mark.parametrize("name", ["", ".", "..", "../first", "/", "first.sqlite", ".unstuck/runs/first", "first\0"])
    def test_what_is_not_a_name_in_the_list(self, folder, name):
        assert Library(folder).path(name) is None

    def test_paths_to_files_elsewhere(self, folder, outside):
        served = Library(folder)
        for name in (str(outside), os.path.relpath(outside, folder / FOLDER), "../../elsewhere/.unstuck/runs/secret"):
            assert served.path(name) is None

    def test_a_link_out_of_the_folder(self, folder, outside, monkeypatch):
        link = folder / FOLDER / "link.sqlite"
        link.symlink_to(outside)
        opened = []
        real = Path.open
        monkeypatch.setattr(Path, "open", lambda path, *a, **k: opened.append(path.resolve()) or real(path, *a, **k))
        served = Library(folder)
        assert served.path("link") is None
        (shown,) = [run for name, run in served.listed() if not name]
        assert shown.trouble == f"lies outside of {folder}; to see it: unstuck ui {outside}"
        assert shown.script == ""
        assert outside not in opened

    def test_a_folder_that_is_a_link_out(self, folder, outside):
        shutil.move(outside, outside.with_name("run.sqlite"))
        (folder / "saved").symlink_to(outside.parent)
        assert Library(folder).path("saved") is None

    def test_what_lies_beside_a_run_and_leads_out(self, folder, outside):
        (folder / FOLDER / "first.sqlite-wal").symlink_to(outside)
        assert sorted(Library(folder).paths()) == ["second"]

    def test_what_is_no_file(self, folder, monkeypatch):
        def opened(path: Path) -> bool:
            assert path.is_file()  # reading the pipe would wait for ever
            return is_run(path)

        monkeypatch.setattr(library, "is_run", opened)
        os.mkfifo(folder / FOLDER / "pipe.sqlite")
        (folder / FOLDER / "none.sqlite").symlink_to(folder / "nothing")
        (folder / FOLDER / "text.sqlite").write_text("text")
        (folder / FOLDER / "folder.sqlite").mkdir()
        assert sorted(Library(folder).paths()) == ["first", "second"]


class TestFound:
    def test_by_name(self, folder, stored):
        shutil.copytree(stored.parent, folder / "saved")
        served = Library(folder)
        assert served.path("first") == folder / FOLDER / "first.sqlite"
        assert served.path("saved") == folder / "saved" / "run.sqlite"
        assert served.name(folder / FOLDER / "second.sqlite") == "second"

    def test_a_link_within_the_folder_is_the_file(self, folder):
        (folder / "first.sqlite").symlink_to(folder / FOLDER / "second.sqlite")
        assert len(Library(folder).paths()) == 2

    def test_two_of_one_name(self, folder, stored):
        shutil.copy(stored, folder / "first.sqlite")
        found = Library(folder).paths()
        assert len(found) == len(set(found.values())) == 3
        assert {"first", "second"} < set(found)

    def test_one_that_was_named(self, folder, outside):
        served = Library(folder, outside)
        assert served.path("secret") == outside
        shutil.copy(outside, outside.with_name("other.sqlite"))
        assert sorted(served.paths()) == ["first", "second", "secret"]

    def test_the_latest_first_and_whether_they_run(self, folder):
        change(folder / FOLDER / "first.sqlite", **RUNNING)
        found = Library(folder).listed()
        assert [(name, run.script, run.running) for name, run in found] == [
            ("second", "second.py", False),
            ("first", "first.py", True),
        ]


def test_a_run_is_read_again_when_it_has_changed_or_may_have_ended_and_not_else(folder, stored, monkeypatch):
    change(folder / FOLDER / "second.sqlite", **RUNNING)
    read = []
    monkeypatch.setattr(library, "describe", lambda path: read.append(path.stem) or describe(path))
    served = Library(folder)

    def looked_at() -> list[str]:
        read.clear()
        assert len(served.listed()) == 2 + (folder / FOLDER / "third.sqlite").exists()
        return sorted(read)

    assert looked_at() == ["first", "second"]
    assert looked_at() == ["second"]  # it runs: its process may be gone
    change(folder / FOLDER / "first.sqlite", run={"steps": 31})
    assert looked_at() == ["first", "second"]
    assert {run.steps for _, run in served.listed()} == {30, 31}
    place(stored, folder, "third")
    change(folder / FOLDER / "second.sqlite", ended="now", process=1)
    assert looked_at() == ["second", "third"]
    assert looked_at() == []
