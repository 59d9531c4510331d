"""Stored runs on the command line: listed, deleted, reported on, exported."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from unstuck.trace import folder
from unstuck.trace.folder import ELSEWHERE_SECONDS, FOLDER, find, listed, state
from unstuck.trace.processes import birth
from unstuck.trace.store import SCHEMA_VERSION, StoreError, read
from unstuck.trace.writer import StoreWriter

OVERCONFIDENT = """
    import torch
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 5)
    layer.weight.data.mul_(60)
    optimizer = torch.optim.SGD(layer.parameters(), 0.01)
    x, y = torch.randn(64, 8), torch.randint(0, 5, (64,))
    for _ in range(12):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(x), y).backward()
        optimizer.step()
    {}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSTUCK_RECORD")
    return tmp_path


@pytest.fixture
def run_of(cli, script):
    """Record a run of the overconfident network and return what was said."""

    def run(*options, end: str = ""):
        return cli("run", *options, script(OVERCONFIDENT.format(end)))

    return run


def only_run(folder: Path) -> Path:
    (path,) = (folder / FOLDER).glob("*.sqlite")
    return path


class TestReport:
    @pytest.mark.parametrize("end", ["", "raise ValueError('late')", "raise SystemExit(3)", "raise KeyboardInterrupt"])
    @pytest.mark.parametrize("options", [[], ["--unsafe-fixes"]])
    def test_it_is_the_same_as_at_the_end_of_the_run(self, cli, run_of, here, end, options):
        live = run_of("--save", here / "out", *options, end=end)
        found = cli("report", here / "out", "--output-format", "json")
        assert found.out == (here / "out" / "report.json").read_text()
        text = cli("report", here / "out" / "run.sqlite")
        assert (text.code, text.err) == (0, "")
        assert live.out.endswith(text.out)
        assert json.loads(found.out)["run"]["exit_code"] == live.code
        assert bool(json.loads(found.out)["fixes"]) == bool(options)

    def test_with_the_settings_of_the_run_or_others(self, cli, run_of):
        run_of("--record", "--ignore", "L001")
        assert "L001" not in cli("report").out.split("not checked")[0]
        assert "L001" in cli("report", "--ignore", "").out
        assert cli("report", "--select", "Q9").refusal.startswith("no rule is called 'Q9'")

    def test_the_lines_are_those_that_ran(self, cli, run_of, script):
        run_of("--record")
        script("# all is different now\n" * 20)
        assert "cross_entropy(layer(x), y).backward()" in cli("report").out

    def test_to_a_file(self, cli, run_of, here):
        run_of("--record")
        said = cli("report", "latest", "-o", "r.json")
        assert (said.code, said.out, said.err) == (0, "", "report saved: r.json\n")
        assert json.loads((here / "r.json").read_text())["run"]["steps"] == 12
        assert cli("report", "-o", here / "none" / "r.txt").refusal.endswith(
            "No such file or directory; name another file"
        )

    @pytest.mark.parametrize(("name", "more"), [("r.pdf", ""), ("r.png", ", or one picture with --chart")])
    def test_to_a_file_whose_name_tells_no_format(self, cli, run_of, here, name, more):
        run_of("--record")
        known = "end its name in .json, .txt, .html, .htm, .sarif, or name one with --output-format"
        assert cli("report", "-o", name).refusal == f"{name} does not tell the format of the report; {known}{more}"
        assert not (here / name).exists()
        assert cli("report", "-o", name, "--output-format", "text").code == 0
        assert cli("report", "-o", "notes").code == 0
        assert (here / "notes").read_text().startswith("unstuck: ")

    def test_of_a_run_that_broke_off(self, cli, run_of, here):
        run_of("--record")
        db = sqlite3.connect(only_run(here))
        db.execute("DELETE FROM info WHERE key IN ('ended', 'verdict')")
        db.execute("UPDATE info SET value = '999999999' WHERE key = 'process'")
        db.commit()
        db.close()
        said = cli("report")
        assert (said.code, said.err) == (0, "")
        assert said.out.splitlines()[0] == (
            "unstuck: 1 root cause (L001) in 12 steps of train.py, which broke off "
            "(its record ends here: the process was killed or could not write)"
        )
        assert json.loads(cli("report", "--output-format", "json").out)["run"]["unfinished"] == "broken off"
        (made,) = json.loads(cli("report", "--output-format", "sarif").out)["runs"]
        assert not made["invocations"][0]["executionSuccessful"]
        assert "broken off" in cli("runs").out

    def test_refused(self, cli, run_of, here):
        assert cli("report").refusal == f"no run is stored in {here}; watch one: unstuck run train.py"
        run_of("--record")
        assert cli("report", "2099").refusal == f"there is no stored run '2099' in {here}; `unstuck runs` lists them"
        assert cli("report", "--output-format", "x").refusal.startswith("no output format 'x'; choose from text, json")
        path = only_run(here)
        db = sqlite3.connect(path)
        db.execute("UPDATE info SET value = '{\"steps\": 1, \"bogus\": 2}' WHERE key = 'run'")
        db.commit()
        assert "what it says of the run is damaged" in cli("report").refusal
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        db.commit()
        db.close()
        assert "newer unstuck" in cli("report").refusal
        assert "newer unstuck" in cli("runs").out


class TestFind:
    def test_by_name_or_its_beginning(self, run_of, here):
        run_of("--record")
        path = only_run(here)
        for name in (str(path), path.stem, path.stem[:-3], "latest"):
            assert find(name).resolve() == path

    def test_more_than_one(self, here):
        for name in ("2026-a", "2026-b"):
            StoreWriter(here / f"{name}.sqlite").close()
        with pytest.raises(StoreError, match="2 runs begin with '2026': 2026-a, 2026-b"):
            find("2026")


class TestRuns:
    def test_none(self, cli, here):
        said = cli("runs")
        assert (said.code, said.out) == (0, "")
        assert said.err == f"unstuck: no runs are stored in {here}; watch one: unstuck run train.py\n"
        assert cli("runs", "none").refusal == (
            f"there is no folder none; name one in which scripts were run (now in {here})"
        )

    @pytest.mark.parametrize("option", ["--prune=3", "--older-than=1"])
    def test_deleting_is_not_listing(self, cli, run_of, here, option):
        run_of("--record")
        said = "--json lists the runs, --prune and --older-than delete some; list them afterwards"
        assert cli("runs", option, "--json").refusal == said
        assert only_run(here).is_file()

    def test_what_cannot_be_deleted(self, cli, run_of, here, monkeypatch):
        def refuse(_):
            raise OSError(30, "Read-only file system")

        run_of("--record")
        monkeypatch.setattr("unstuck.cli.runs.remove", refuse)
        assert cli("runs", "--prune=0").refusal == (
            f"cannot delete {only_run(here)}: Read-only file system; see whether its folder may be written to"
        )

    def test_they_are_listed(self, cli, run_of, here):
        run_of("--record")
        run_of("--no-record", "--save", here / "saved")
        name = only_run(here).stem
        (here / FOLDER / "other.sqlite").write_text("no run")
        header, *lines = cli("runs").out.splitlines()
        assert header.split() == ["RUN", "SCRIPT", "BEGUN", "STEPS", "SIZE", "VERDICT"]
        assert len(lines) == 2
        assert all("train.py" in line and " 12 " in line and "L001 overconfident-start" in line for line in lines)
        known = json.loads(cli("runs", "--json").out)
        assert {run["name"] for run in known} == {name, "saved"}
        assert all(run["bytes"] == Path(run["path"]).stat().st_size and not run["running"] for run in known)

    def test_what_a_terminal_would_obey_is_not_printed(self, cli, run_of, here):
        run_of("--record")
        db = sqlite3.connect(only_run(here))
        info = {"title": "\x1b[2J\u202eevil\n.py", "started": "2026-01-01T00:00:00+00:00", "steps": 1}
        db.execute("UPDATE info SET value = ? WHERE key = 'run'", (json.dumps(info),))
        db.commit()
        db.close()
        assert "␛[2J\ufffdevil .py" in cli("runs").out

    @pytest.mark.parametrize(("keep", "left"), [(0, 0), (2, 2), (5, 3)])
    def test_all_but_the_latest_are_deleted(self, cli, run_of, here, keep, left):
        for _ in range(3):
            run_of("--record")
        run_of("--no-record", "--save", here / "saved")
        latest = [run.path.name for run in listed(here)][:3][3 - left :]
        said = cli("runs", "--prune", keep)
        assert said.out.startswith(f"{3 - left} {'run' if left == 2 else 'runs'} deleted, ")
        assert sorted(path.name for path in (here / FOLDER).iterdir()) == sorted(latest)
        assert (here / "saved" / "run.sqlite").exists()

    @pytest.mark.parametrize("more", [[], ["--older-than", "0"]])
    def test_as_many_as_are_kept_without_a_number(self, cli, run_of, here, monkeypatch, more):
        for _ in range(3):
            run_of()
        monkeypatch.setenv("UNSTUCK_KEEP_RUNS", "2")
        assert cli("runs", "--prune", *more).out.startswith("1 run deleted, ")
        monkeypatch.setenv("UNSTUCK_KEEP_RUNS", "some")
        assert "keep_runs in the environment" in cli("runs", "--prune").refusal

    def test_by_age_but_never_one_that_runs(self, cli, run_of, here, monkeypatch):
        run_of("--record")
        assert cli("runs", "--older-than", 1).out.startswith("0 runs deleted")
        monkeypatch.setattr("unstuck.cli.runs.timedelta", lambda days: timedelta(days=-days))
        monkeypatch.setattr(folder, "state", lambda *_: "running")
        assert cli("runs", "--older-than", 1).out.startswith("0 runs deleted")
        monkeypatch.undo()
        monkeypatch.chdir(here)
        assert cli("runs", "--older-than", 0).out.startswith("1 run deleted")


@pytest.mark.skipif(os.name == "nt", reason="whether a process exists is not asked there")
def test_how_far_a_run_is():
    assert state({"ended": "now", "process": os.getpid()}) == "ended"
    assert state({"process": os.getpid(), "process_born": birth(os.getpid())}, 0.0) == "running"
    assert state({"process": 999_999_999}) == state({}) == "broken off"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells when a process began")
def test_a_process_that_was_given_the_number_of_a_killed_one_is_not_the_run():
    with subprocess.Popen(["sleep", "60"]) as later:
        found = state({"process": later.pid, "process_born": birth(os.getpid())}, time.time())
        later.kill()
    assert found == "broken off"


def test_where_nothing_tells_whether_it_is_the_same_process_the_last_change_decides(monkeypatch):
    monkeypatch.setattr(folder, "lives", lambda *_: None)
    mine = {"process": os.getpid()}
    assert state(mine) == state(mine, time.time() - ELSEWHERE_SECONDS + 10) == "running"
    assert state(mine, time.time() - ELSEWHERE_SECONDS - 10) == "broken off"


def test_of_a_process_on_another_machine_the_last_change_decides():
    elsewhere = {"host": "another", "process": os.getpid()}
    assert state(elsewhere) == "broken off"
    assert state(elsewhere, time.time() - ELSEWHERE_SECONDS + 10) == "running"
    assert state(elsewhere, time.time() - ELSEWHERE_SECONDS - 10) == "broken off"
    assert state({**elsewhere, "ended": "now"}, time.time()) == "ended"


class TestExport:
    @pytest.fixture
    def trace(self, run_of, here):
        run_of("--record")
        return read(only_run(here)).trace

    def test_refused(self, cli, trace, here, monkeypatch):
        (here / "file").touch()
        assert cli("export", "--to", "csv", "-o", here / "file").refusal.startswith("cannot write the numbers to")
        assert cli("export", "none", "--to", "csv", "-o", here / "x").refusal.startswith(
            "there is no stored run 'none'"
        )
        assert "is not one of" in cli("export", "--to", "xls", "-o", here / "x").err
        for target, package in (("parquet", "pyarrow"), ("tensorboard", "tensorboard.compat.proto.event_pb2")):
            monkeypatch.setitem(__import__("sys").modules, package, None)
            said = cli("export", "--to", target, "-o", here / "x").refusal
            assert said.endswith("install it: pip install 'unstuck[export]'")

    def test_csv(self, cli, trace, here):
        said = cli("export", "--to", "csv", "-o", here / "x")
        assert said.err.startswith(f"exported: {here / 'x' / 'losses.csv'}, ")
        rows = {
            name: list(csv.DictReader((here / "x" / f"{name}.csv").read_text().splitlines()))
            for name in ("losses", "summaries")
        }
        assert {int(row["step"]): float(row["loss"]) for row in rows["losses"]} == trace.objective
        weight = next(site for site in trace.sites if site.label == "Linear.weight")
        found = [row for row in rows["summaries"] if row["label"] == "Linear.weight" and row["role"] == "value"]
        expected = [(step, summary.std) for step, summary in trace.summaries(weight, "value")]
        assert [(int(row["step"]), float(row["std"])) for row in found] == expected
        assert len(expected) == len(trace.steps) > 10

    def test_parquet(self, cli, trace, here):
        parquet = pytest.importorskip("pyarrow.parquet")
        cli("export", "--to", "parquet", "-o", here / "x")
        losses = parquet.read_table(here / "x" / "losses.parquet").to_pydict()
        assert dict(zip(losses["step"], losses["loss"], strict=True)) == trace.objective
        assert parquet.read_table(here / "x" / "sites.parquet").num_rows == len(trace.sites)

    def test_tensorboard(self, cli, trace, here):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        cli("export", "--to", "tensorboard", "-o", here / "x")
        (file,) = (here / "x").iterdir()
        values = [(event.step, value) for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
        losses = {step: value.tensor.float_val[0] for step, value in values if value.tag == "loss"}
        assert losses == pytest.approx(trace.objective)
        histograms = [value for _, value in values if value.tag.endswith("weight/value")]
        assert len(histograms) == len(trace.steps)
        assert len({value.tag for _, value in values}) > 10


class TestChart:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--chart", "loss", "--output-format", "json", "-o", "q.png"], "one picture; leave --output-format out"),
            (["--chart", "loss", "-v", "-o", "q.png"], "one picture; leave --verbose out"),
            (["-v", "--output-format", "json"], "--verbose is for text; json has everything anyway"),
            (["--chart", "loss"], "--chart needs a file to draw into, for example: -o loss.png"),
            (["--step", "3"], "--step chooses the step of a chart, for example: --chart activations --step 3 -o "),
            (["--chart", "loss", "--step", "3", "-o", "x.png"], "the chart 'loss' shows all steps at once"),
            (["--chart", "gradients", "--step", "99999", "-o", "x.png"], "step 99,999 was not sampled; near it are"),
            (["--chart", "los", "-o", "x.png"], "no chart 'los'; choose from loss, activations"),
            (["--chart", "batchnorm", "-o", "x.png"], "nothing to show in the chart 'batchnorm'"),
            (["--chart", "loss", "-o", "x.bmp"], "cannot write a chart as x.bmp; its name must end in png, svg, html"),
            (["--chart", "loss", "-o", "absent/x.svg"], "cannot write the chart to absent/x.svg: No such file"),
        ],
    )
    def test_what_cannot_be_drawn(self, cli, run_of, arguments, complaint):
        pytest.importorskip("vl_convert")
        run_of("--record")
        said = cli("report", "latest", *arguments)
        assert complaint in said.refusal
        assert not Path("q.png").exists()

    @pytest.mark.parametrize(("ending", "begins"), [("svg", b"<svg"), ("png", b"\x89PNG")])
    def test_one_chart_alone(self, cli, run_of, here, ending, begins):
        pytest.importorskip("vl_convert")
        run_of("--record")
        said = cli("report", "latest", "--chart", "loss", "-o", f"loss.{ending}")
        assert (said.code, said.err) == (0, f"chart saved: loss.{ending}\n")
        assert (here / f"loss.{ending}").read_bytes().startswith(begins)
