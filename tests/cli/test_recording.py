"""Runs are kept below .unstuck, as long as that is wanted and possible; only so many of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from unstuck.cli.run import _say_where
from unstuck.fixes.scripts import run_script
from unstuck.ranks.launch import VARIABLES
from unstuck.trace.folder import FOLDER, find, listed
from unstuck.trace.store import read

from .terminal import attached

WARNING = "unstuck: cannot record the run in .unstuck/runs: {}; --no-record leaves it be\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSTUCK_RECORD")
    return tmp_path


@pytest.fixture
def train(cli, script):
    """Run the healthy script and return what was said."""
    return lambda *options: cli("run", *options, script())


def files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("*"))


class TestNotKept:
    @pytest.mark.parametrize("how", ["option", "file", "environment"])
    def test_when_that_is_not_wanted(self, train, here, monkeypatch, how):
        if how == "file":
            (here / "pyproject.toml").write_text("[tool.unstuck]\nrecord = false\n")
        if how == "environment":
            monkeypatch.setenv("UNSTUCK_RECORD", "0")
        train(*(["--no-record"] if how == "option" else []))
        assert not (here / ".unstuck").exists()

    @pytest.mark.parametrize("value", ["2", "maybe", ""])
    def test_another_value_in_the_environment(self, train, monkeypatch, value):
        monkeypatch.setenv("UNSTUCK_RECORD", value)
        expected = f"record in the environment (UNSTUCK_…) must be true or false, got {value!r}"
        assert train().refusal == expected

    @pytest.mark.parametrize("launcher", VARIABLES)
    def test_by_all_of_several_processes(self, train, here, monkeypatch, launcher):
        monkeypatch.setenv(launcher, "1")
        train()
        train("--record")  # rank 0 keeps what all ranks see
        assert not (here / ".unstuck").exists()

    def test_a_script_that_does_not_train_leaves_nothing(self, cli, script, here):
        path = script("print(1)\n")
        cli("run", path)
        assert list(here.iterdir()) == [path]

    def test_nor_does_it_take_away_what_is_there(self, cli, train, script, here):
        train()
        (before,) = files(here)
        cli("run", script("print(1)\n"))
        assert files(here) == [before]

    def test_where_nothing_can_be_written_that_is_one_line(self, train, here):
        (here / ".unstuck").touch()
        said = train()
        assert said.err == WARNING.format("Not a directory")
        assert (said.code, said.out.splitlines()[1]) == (0, "steps done: 12")
        refused = "cannot record the run in .unstuck/runs: Not a directory; name another folder"
        assert train("--record").refusal == refused

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission(self, train, script, here):
        script()
        here.chmod(0o500)
        said = train()
        here.chmod(0o700)
        assert said.err == WARNING.format("Permission denied")

    def test_a_foreign_file_in_its_place_is_left_alone(self, train, here):
        (here / "run.sqlite").write_text("my notes")
        assert "is not a run that unstuck has stored, and is left alone" in train("--save", here).refusal
        assert (here / "run.sqlite").read_text() == "my notes"

    def test_the_runs_that_a_repair_of_the_script_makes(self, script, here):
        assert run_script(script(), [], 5).steps == 5
        assert not (here / ".unstuck").exists()


class TestKept:
    def test_below_the_current_folder_out_of_version_control(self, train, here):
        said = train()
        assert (said.code, said.err) == (0, "")
        (path,) = files(here)
        assert path.stem.endswith("-train")
        assert (here / ".unstuck" / ".gitignore").read_text() == "*\n"

    def test_a_page_of_it_by_its_ending_alone(self, cli, train, here):
        pytest.importorskip("vl_convert")
        train()
        said = cli("report", "latest", "-o", "r.html")
        assert (said.code, said.out, said.err) == (0, "", "report saved: r.html\n")
        assert (here / "r.html").read_text().startswith("<!doctype html>")

    def test_also_when_the_script_goes_elsewhere(self, cli, script, here, monkeypatch):
        from conftest import TINY_TRAINING

        (here / "elsewhere").mkdir()
        monkeypatch.chdir(here)  # and back, in the end
        cli("run", script("    import os; os.chdir('elsewhere')\n" + TINY_TRAINING))
        assert len(files(here)) == 1
        assert not (here / "elsewhere" / ".unstuck").exists()


class TestHint:
    """How to see more of a run is said to a person alone."""

    @attached
    def test_not_where_nothing_was_kept(self, terminal):
        _say_where(None)
        assert terminal.text() == ""

    @attached
    def test_nor_without_what_draws_the_page(self, terminal, monkeypatch):
        monkeypatch.setattr("unstuck.report.style.installed", lambda: False)
        _say_where(Path("run.sqlite"))
        assert terminal.text() == ""

    @attached
    def test_on_a_terminal(self, terminal, monkeypatch):
        monkeypatch.setattr("unstuck.report.style.installed", lambda: True)
        _say_where(Path("run.sqlite"))
        assert terminal.text() == "unstuck: with pictures: unstuck report latest -o report.html\r\n"


class TestSavedElsewhere:
    def test_by_a_later_process_that_has_trained_by_itself(self, train, here, monkeypatch):
        """Many trainings that one launcher starts: none is to write where the first does while it runs."""
        monkeypatch.setenv("SLURM_PROCID", "3")
        said = train("--save", "third")
        assert f"report saved: {here}/third/report.json" in said.err
        assert not (here / "third" / "run.sqlite").exists()

    def test_the_latest_is_found(self, train, here, tmp_path_factory):
        folder = tmp_path_factory.mktemp("elsewhere") / "saved"
        train("--save", folder)
        assert find("latest") == folder / "run.sqlite"
        (run,) = listed(here)
        assert find(run.name) == folder / "run.sqlite"

    def test_and_so_it_is_in_a_folder_of_the_current_one(self, train, here):
        train("--save", "saved")
        assert find("latest") == find("saved") == here / "saved" / "run.sqlite"
        assert [run.name for run in listed(here)] == ["saved"]

    def test_a_second_one_in_that_place_is_listed_once(self, train, here, tmp_path_factory):
        folder = tmp_path_factory.mktemp("elsewhere")
        train("--save", folder)
        train("--save", folder)
        assert len(files(here)) == len(listed(here)) == 1

    def test_it_is_never_deleted(self, cli, train, here, tmp_path_factory):
        folder = tmp_path_factory.mktemp("elsewhere")
        train("--save", folder)
        assert cli("runs", "--prune", 0).out == "1 run deleted, 0 B freed\n"
        assert files(here) == []
        assert read(folder / "run.sqlite").trace.steps

    def test_nor_listed_when_it_is_gone(self, train, here, tmp_path_factory):
        folder = tmp_path_factory.mktemp("elsewhere")
        train("--save", folder)
        (folder / "run.sqlite").unlink()
        assert listed(here) == []
        train()
        assert len(files(here)) == 1


class TestLimits:
    def test_only_so_many_are_kept(self, cli, train, here, monkeypatch):
        monkeypatch.setenv("UNSTUCK_KEEP_RUNS", "2")
        names = []
        for _ in range(4):
            train()
            names.append(json.loads(cli("runs", "--json").out)[-1]["name"])
        assert [run.name for run in listed(here)] == names[-2:]

    def test_and_so_many_megabytes(self, train, here, monkeypatch):
        (here / "pyproject.toml").write_text("[tool.unstuck]\nkeep-megabytes = 1\n")
        train()
        (first,) = files(here)
        with first.open("ab") as file:
            file.truncate(1 << 20)
        train()
        assert len(files(here)) == 2
        with first.open("ab") as file:
            file.truncate((1 << 20) + 1)
        train()
        assert [path.stat().st_size < 1 << 20 for path in files(here)] == [True, True]  # the first is gone
