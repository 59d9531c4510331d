from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from unstuck.cli import lm_ladder as command
from unstuck.cli.lm import app
from unstuck.lm.data import read_words
from unstuck.lm.ranks import Ranks

Ladder = Callable[..., Result]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "names.txt"
    path.write_text("\n".join(read_words().words[:300]))
    return path


@pytest.fixture
def ladder(names: Path) -> Iterator[Ladder]:
    threads = torch.get_num_threads()

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["ladder", "--data", str(names), *map(str, arguments)])

    yield run
    assert torch.get_num_threads() == threads


def refused(result: Result) -> str:
    """The one line of an error."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("unstuck: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--stages", "first"], "unknown stage 'first': give some of original, "),
        (["--seeds", "0"], "--seeds is 0: give a whole number from 1 to 10000"),
        (["--steps", "1"], "--steps is 1: give a whole number from 2 to 2147483647"),
        (["--threads", "0"], "--threads is 0: give a whole number from 1 to 1024"),
        (["--engine", "fast"], "unknown --engine 'fast': choose one of compiled, torch"),
        (["--output-format", "html"], "unknown --output-format 'html': choose one of text, markdown, json"),
        (["--data", "missing.txt"], "data file missing.txt does not exist: give a text file with one word per line"),
        (["--deep", "--seeds", "3"], "--seeds does nothing with --deep: leave it out"),
        (["--deep", "--stages", "1"], "--stages does nothing with --deep: leave it out"),
        (["--deep", "--steps", "0"], "--steps is 0: give a whole number from 1 to 1000000"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], text: str, ladder: Ladder) -> None:
    assert refused(ladder(*arguments)).startswith(text)


@pytest.mark.parametrize("option", ["--out", "--charts"])
def test_folders_that_cannot_be_written_are_refused_before_any_work(option: str, ladder: Ladder, names: Path) -> None:
    assert str(names) in refused(ladder(option, names / "below", "--steps", 10**9))


def test_charts_without_their_library_are_refused(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "installed", lambda: False)
    assert 'pip install "unstuck[html]"' in refused(ladder("--charts", tmp_path))


@pytest.mark.slow
def test_tables_are_printed_and_what_was_done_noted(ladder: Ladder) -> None:
    result = ladder("--stages", "4,5", "--seeds", 2, "--steps", 50)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["stage", "loss", "at", "step", "0", "saturated", "dead", "train", "validation"]
    assert [line.split()[0] for line in lines[1:3]] == ["kaiming", "batchnorm"]
    assert "No column for the lecture: the lecture's losses are of its own list" in result.stdout
    assert any(line.startswith("kaiming → batchnorm  ") for line in lines)
    assert re.fullmatch(
        r"(unstuck: note: compiled the training steps in .*\n)?"  # when they were not on the disk yet
        r"unstuck: note: 200 model-steps of 4 runs in [\d.]+ s \([\d.]+ µs a model-step, \d+ at a time\)\n",
        result.stderr,
    )


def test_json_is_all_of_standard_output_and_of_the_folder(ladder: Ladder, tmp_path: Path) -> None:
    result = ladder("--stages", "4", "--seeds", 2, "--steps", 20, "--output-format", "json", "--out", tmp_path / "out")
    data = json.loads(result.stdout)
    assert data["seeds"] == 2
    assert data["steps"] == 20
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == data
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "kaiming-seed0.safetensors",
        "kaiming-seed1.safetensors",
        "ladder.json",
        "results.json",
    ]


def test_a_finished_ladder_is_printed_again_and_can_be_widened(ladder: Ladder, tmp_path: Path) -> None:
    first = ladder("--stages", "4", "--seeds", 2, "--steps", 20, "--out", tmp_path)
    again = ladder("--stages", "4", "--seeds", 2, "--steps", 20, "--out", tmp_path)
    assert again.stdout == first.stdout
    assert "2 runs trained before: nothing left to do" in again.stderr
    wider = ladder("--stages", "4", "--seeds", 3, "--steps", 20, "--out", tmp_path)
    assert "note: 20 model-steps of 3 runs" in wider.stderr
    assert "holds a ladder of 20 steps, not 30" in refused(ladder("--steps", 30, "--out", tmp_path))


def interrupting(engine: Any) -> Any:
    """An engine under which Ctrl-C is pressed."""

    def advance(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return engine(*arguments)

    return advance


def test_ctrl_c_saves_and_the_same_command_goes_on(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--stages", "4", "--seeds", 1, "--steps", 2000, "--output-format", "json")
    with monkeypatch.context() as patch:
        patch.setattr(command, "engine_of", lambda name: interrupting(original(name)))
        stopped = ladder(*arguments, "--out", tmp_path)
    assert stopped.exit_code == 130
    assert stopped.stdout == ""
    assert f"interrupted, saved to {tmp_path}: the same command goes on from there" in stopped.stderr
    resumed, whole = ladder(*arguments, "--out", tmp_path), ladder(*arguments)
    assert "note: 1,000 model-steps of 1 run" in resumed.stderr
    assert json.loads(resumed.stdout) == json.loads(whole.stdout)


original = command.engine_of


def test_ctrl_c_without_a_folder_says_that_nothing_is_kept(ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "engine_of", lambda name: interrupting(original(name)))
    stopped = ladder("--stages", "4", "--seeds", 1, "--steps", 2000)
    assert stopped.exit_code == 130
    assert "interrupted, nothing saved: give --out DIR" in stopped.stderr


def test_markdown(ladder: Ladder) -> None:
    result = ladder("--stages", "4", "--seeds", 1, "--steps", 10, "--output-format", "markdown", "--engine", "torch")
    assert result.stdout.startswith("| stage | loss at step 0 | saturated | dead | train | validation |\n| --- |")


def test_deep(ladder: Ladder, tmp_path: Path) -> None:
    result = ladder("--deep", "--steps", 3, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("initialisation       layer   saturated  activation std  gradient std  grad:data")
    assert len([line for line in lines if line.startswith("gain")]) == 36
    assert lines[-2:] == ["last 3 steps; about -3 is usual.", "Split 80/10/10 by distinct word."]
    data = json.loads((tmp_path / "deep.json").read_text())
    assert data["data"]["split"] == "words"
    assert [(run["gain"], run["batchnorm"]) for run in data["runs"]][3] == ("1", True)
    assert data["runs"][0]["layers"][5]["saturated"] is None
    assert json.loads(ladder("--deep", "--steps", 3, "--output-format", "json").stdout) == data


def test_ctrl_c_in_deep_says_that_nothing_is_saved(
    ladder: Ladder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.lm_deep, "run_deep", stopped)
    result = ladder("--deep", "--out", tmp_path)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr == "unstuck: note: interrupted, nothing is saved\n"
    assert not (tmp_path / "deep.json").exists()


@pytest.mark.parametrize(
    ("stages", "size", "text"), [("4", 1, "of 1 run in "), ("4,5", 2, "of 1 run of this process in ")]
)
def test_a_share_of_the_runs_is_called_one(
    stages: str, size: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = command.Ladder(command.Plan(command.stages_of(stages), 1, 2), read_words(), Ranks(0, size))
    command._report(2, 1.0, runs, 1)
    assert f"2 model-steps {text}" in capsys.readouterr().err


def drawn(folder: Path) -> set[str]:
    """The names of the charts in a folder, each of which must be there as PNG and SVG."""
    names = {path.stem for path in folder.iterdir()}
    for name in names:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.svg").read_text().startswith("<svg")
    return names


def test_charts(ladder: Ladder, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    result = ladder("--stages", "2,4", "--seeds", 2, "--steps", 10, "--charts", tmp_path)
    assert "note: 6 files in" in result.stderr
    assert drawn(tmp_path) == {"ladder-loss", "ladder-validation", "ladder-differences"}
    assert "kaiming" in (tmp_path / "ladder-validation.svg").read_text()


@pytest.mark.slow
def test_charts_of_the_deep_network(ladder: Ladder, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    ladder("--deep", "--steps", 3, "--charts", tmp_path)
    assert drawn(tmp_path) == {"deep-activations", "deep-gradients", "deep-weight-gradients", "deep-updates"}
