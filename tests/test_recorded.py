"""Runs kept by `unstuck.watch(record=…)`, and what is left of runs that something happens to."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

import unstuck
from unstuck.capture.session import SessionError, StopTraining
from unstuck.runs import read_report
from unstuck.trace.folder import FOLDER, find, listed
from unstuck.trace.store import StoreError, read, read_info


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSTUCK_RECORD")
    return tmp_path


def train(steps: int = 12) -> None:
    w = torch.zeros(3, requires_grad=True)
    for _ in range(steps):
        ((w - 1) ** 2).sum().backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            w.grad = None


class TestWatch:
    @pytest.mark.parametrize("record", [None, False])
    def test_nothing_is_written_unasked(self, here, record):
        with unstuck.watch(record=record):
            train()
        assert list(here.iterdir()) == []

    def test_nor_when_nothing_trains(self, here):
        with unstuck.watch(record=True):
            pass
        assert list(here.iterdir()) == []

    def test_nor_by_a_run_that_cannot_begin(self, here):
        with unstuck.watch() as first:
            with pytest.raises(SessionError), unstuck.watch(record="second"):
                pass
            train()
        assert first.report().run.steps == 12
        assert list((here / "second").iterdir()) == []

    def test_a_place_that_cannot_be_written_to(self, here):
        (here / "file").touch()
        with pytest.raises(StoreError, match=r"cannot record the run in file: .*; name another folder"):
            unstuck.watch(record="file").__enter__()
        (here / "notes.sqlite").write_text("mine")
        with pytest.raises(StoreError, match=r"notes.sqlite is not a run that unstuck has stored"):
            unstuck.watch(record="notes.sqlite").__enter__()
        with unstuck.watch() as run:  # nobody is watching any more
            train()
        assert run.report().run.steps == 12

    def test_below_the_current_folder(self, here):
        with unstuck.watch(record=True) as run:
            train()
        (found,) = listed(here)
        assert found.path.parent == here / FOLDER
        assert (found.steps, found.verdict, found.running) == (12, "no fault found", False)
        assert str(read_report(find("latest"))[0]) == str(run.report())

    @pytest.mark.parametrize("place", ["folder", Path("a/b"), "x.sqlite"])
    def test_in_another_place(self, here, place):
        with unstuck.watch(record=place):
            train()
        file = here / place if str(place).endswith(".sqlite") else here / place / "run.sqlite"
        assert read(file).trace.steps
        assert "ended" in read_info(file)
        assert not (here / ".unstuck").exists()

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ZeroDivisionError("none"), "ended with ZeroDivisionError: none"),
            (KeyboardInterrupt(), "was interrupted (Ctrl-C)"),
            (SystemExit(0), ""),
            (StopTraining(), ""),
        ],
    )
    def test_an_error_in_the_block_ends_it_and_goes_on(self, here, error, said):
        def fails() -> None:
            with unstuck.watch(record="run.sqlite"):
                train()
                raise error

        with pytest.raises(type(error)):
            fails()
        assert "ended" in read_info(here / "run.sqlite")
        assert read_report(here / "run.sqlite")[0].run.ending == said
        assert listed(here)[-1].verdict == (f"no fault found; {said}" if said else "no fault found")

    def test_while_it_trains_it_is_listed_as_running(self, here):
        with unstuck.watch(record=True):
            (found,) = listed(here)
            assert (found.running, found.steps, found.verdict) == (True, 0, "running")
            train()


TRAINS = """
import torch, time
w = torch.zeros(3, requires_grad=True)
o = torch.optim.SGD([w], lr=0.01)
for step in range({steps}):
    if step == 20:
        {at_20}
    o.zero_grad()
    ((w - 1) ** 2).sum().backward()
    o.step()
print("trained", flush=True)
{then}
"""


@pytest.fixture(scope="module")
def forked():
    root = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, root)
    from zoo import forked

    sys.path.remove(root)
    return forked


@pytest.fixture
def run(script, forked, here):
    """Do `unstuck run` of a script in the current folder in a process of its own; `watch` is told of it meanwhile."""

    def run(*, steps: int = 100, at_20: str = "pass", then: str = "", watch=lambda _: None):
        path = script(TRAINS.format(steps=steps, at_20=at_20, then=then))
        command = ["-m", "unstuck", "run", "--record", str(path)]
        return forked.python(command, folder=here, time_limit=60, started=watch)

    return run


class TestWhatHappens:
    def test_killed_while_it_hangs(self, cli, run, here):
        seen = []

        def watch(process) -> None:
            end = time.monotonic() + 30
            while time.monotonic() < end and (not listed(here) or listed(here)[0].steps < 1_000):
                time.sleep(0.05)
            seen.extend([listed(here)[0].verdict, str(read_report(find("latest"))[0]).splitlines()[0]])
            process.kill()

        assert run(steps=1_000, then="time.sleep(60)", watch=watch).returncode == -9
        assert seen == ["running", "unstuck: no fault found in 1,000 steps of train.py, which still runs"]
        (found,) = listed(here)
        assert (found.verdict, found.steps) == ("broken off", 1_000)
        assert cli("report").out.splitlines()[0] == (
            "unstuck: no fault found in 1,000 steps of train.py, which broke off "
            "(its record ends here: the process was killed or could not write)"
        )
        assert len(read(find("latest")).trace.objective) == 1_000

    @pytest.mark.parametrize(
        ("end", "code", "ending"),
        [
            (
                "raise RuntimeError('no more memory\\nat all')",
                1,
                "ended with exit code 1 (RuntimeError: no more memory)",
            ),
            ("import signal; signal.raise_signal(signal.SIGTERM)", 143, "was ended by SIGTERM"),
            (
                "import signal, sys; sys.excepthook = lambda *_: signal.raise_signal(signal.SIGTERM); 1 / 0",
                1,
                "ended with exit code 1 (ZeroDivisionError: division by zero)",
            ),
            ("raise KeyboardInterrupt", 130, "was interrupted (Ctrl-C)"),
            ("raise SystemExit(3)", 3, "ended with exit code 3"),
            ("import os; os._exit(4)", 4, "ended with exit code 4"),
        ],
    )
    def test_a_run_that_ends_otherwise_than_well_says_so_everywhere(self, run, cli, here, end, code, ending):
        done = run(then=end)
        first = f"unstuck: no fault found in 100 steps of train.py, which {ending}"
        assert done.returncode == code
        assert f"\n{first}\n" in done.stdout
        assert cli("report").out.startswith(f"{first}\n")
        assert f"no fault found; {ending}" in cli("runs").out
        (found,) = json.loads(cli("runs", "--json").out)
        assert found["ending"] == ending
        assert json.loads(cli("report", "--output-format", "json").out)["run"]["ending"] == ending

    def test_the_folder_is_removed(self, run, here):
        done = run(at_20="import shutil; shutil.rmtree('.unstuck')")
        assert done.returncode == 0
        assert done.stdout.startswith("trained\n\nunstuck: no fault found in 100 steps of train.py\n")
        (line,) = done.stderr.splitlines()
        assert line.endswith(": the file is gone; the training goes on, and what was written can be read")
        assert not (here / ".unstuck").exists()

    @pytest.mark.skipif(os.name == "nt", reason="there is no such limit")
    def test_the_disk_is_full(self, run):
        """No file may grow beyond some size: writing fails as on a full disk."""
        done = run(
            at_20="import glob, os, resource, sqlite3; db = sqlite3.connect(glob.glob('.unstuck/runs/*.sqlite')[0]); "
            "written = lambda: db.execute('SELECT count(*) FROM steps').fetchone()[0] >= 10; "
            "[time.sleep(0.1) for _ in range(300) if not written()]; time.sleep(0.5); "
            "n = max(map(os.path.getsize, glob.glob('.unstuck/runs/*'))); "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))"
        )
        assert done.returncode == 0
        assert done.stdout.startswith("trained\n\nunstuck: no fault found in 100 steps of train.py\n")
        (line,) = done.stderr.splitlines()
        assert line.startswith("unstuck: cannot go on recording the run to ")
        assert line.endswith("; the training goes on, and what was written can be read")
        stored = read(find("latest"))
        assert {0, 1, 2} < set(stored.trace.steps)
        assert max(stored.trace.steps) < 25
        assert read_report(find("latest"))[0].run.unfinished == "broken off"
