from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from unstuck.lm.data import WordList
from unstuck.lm.errors import LmError
from unstuck.lm.ladder import Ladder, Plan, engine_of
from unstuck.lm.ladder_store import load_runs, open_folder, save_json, save_runs
from unstuck.lm.stages import stages_of

PLAN = Plan(stages_of("kaiming"), 1, 1500)
NAME = "kaiming-seed0.safetensors"


@pytest.fixture
def saved(words: WordList, tmp_path: Path) -> Path:
    """A folder with one run at step 1,000."""
    ladder = Ladder(PLAN, words)
    done: list[int] = []
    ladder.train(engine_of("compiled"), on_block=done.append, should_stop=lambda: bool(done))
    folder = tmp_path / "new" / "ladder"
    open_folder(folder, words, PLAN.steps)
    save_runs(folder, ladder.runs)
    return folder


def change(folder: Path, **arrays: np.ndarray) -> None:
    held = load_file(folder / NAME)
    save_file({**held, **arrays}, folder / NAME)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("{", "is not valid JSON"),
        ("[]", "was not written by `unstuck lm ladder`"),
        ('{"format": "unstuck-lm"}', "was not written by `unstuck lm ladder`"),
        ('{"format": "unstuck-ladder", "version": 2}', "has format version 2, this program reads version 1"),
    ],
)
def test_other_folders_are_refused(record: str, text: str, words: WordList, tmp_path: Path) -> None:
    (tmp_path / "ladder.json").write_text(record)
    with pytest.raises(LmError, match=text):
        open_folder(tmp_path, words, 1500)


def test_other_steps_and_other_data_are_refused(saved: Path, words: WordList) -> None:
    with pytest.raises(LmError, match="holds a ladder of 1500 steps, not 2000"):
        open_folder(saved, words, 2000)
    record = json.loads((saved / "ladder.json").read_text())
    (saved / "ladder.json").write_text(json.dumps({**record, "data": "0", "source": "/elsewhere"}))
    with pytest.raises(LmError, match=r"of other data \(/elsewhere\)"):
        open_folder(saved, words, 1500)


def test_ladders_of_another_split_are_refused(lectures: WordList, words: WordList, tmp_path: Path) -> None:
    """Those that do not say were split by word."""
    for name, held, text in (
        ("lecture", lectures, "split by words, now they are split by lines"),
        ("other", words, ""),
    ):
        folder = tmp_path / name
        open_folder(folder, held, 1500)
        record = json.loads((folder / "ladder.json").read_text())
        assert record.pop("split") == ("lines" if text else "words")
        (folder / "ladder.json").write_text(json.dumps(record))
        if text:
            with pytest.raises(LmError, match=text):
                open_folder(folder, held, 1500)
        else:
            open_folder(folder, held, 1500)


def test_a_file_in_the_folders_place_is_refused(words: WordList, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LmError, match="is a file"):
        open_folder(tmp_path / "file", words, 1500)
    with pytest.raises(LmError, match="is a file"):
        save_json(tmp_path / "file" / "deep.json", {})


@pytest.mark.parametrize(
    "arrays",
    [
        {"step": np.array([999])},
        {"step": np.array([2000])},
        {"step": np.array([-1000])},
        {"step": np.array([1000, 1000])},
        {"step": np.array([np.nan])},
        {"losses": np.array([True])},
        {"losses": np.zeros(2)},
        {"gain": np.ones(100, np.float32)},
        {"gain": np.ones(200)},
        {"other": np.ones(1)},
    ],
)
def test_runs_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray], saved: Path, words: WordList) -> None:
    change(saved, **arrays)
    with pytest.raises(LmError, match=rf"{NAME} is damaged or of another program: delete it"):
        load_runs(saved, Ladder(PLAN, words).runs, PLAN.steps)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_cut_files_are_refused(cut: int, saved: Path, words: WordList) -> None:
    (saved / NAME).write_bytes((saved / NAME).read_bytes()[:cut])
    with pytest.raises(LmError, match="is damaged"):
        load_runs(saved, Ladder(PLAN, words).runs, PLAN.steps)


def test_going_on_from_the_disk_changes_no_bit(saved: Path, words: WordList) -> None:
    whole, rest = Ladder(PLAN, words), Ladder(PLAN, words)
    whole.train(engine_of("compiled"))
    load_runs(saved, rest.runs, PLAN.steps)
    assert rest.runs[0].step == 1000
    rest.train(engine_of("compiled"))
    assert rest.results().measured == whole.results().measured
    np.testing.assert_array_equal(rest.runs[0].losses, whole.runs[0].losses)


def test_seeds_and_stages_may_be_added(saved: Path, words: WordList) -> None:
    open_folder(saved, words, PLAN.steps)
    wider = Ladder(Plan(stages_of("kaiming,batchnorm"), 2, PLAN.steps), words)
    load_runs(saved, wider.runs, PLAN.steps)
    assert [run.step for run in wider.runs] == [1000, 0, 0, 0]


def test_json_is_written_whole(tmp_path: Path) -> None:
    path = save_json(tmp_path / "new" / "results.json", {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]
