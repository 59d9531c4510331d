"""A ladder on disk: ladder.json says what it is of, one safetensors file a run holds how far it has come; no pickle.

A folder belongs to one word list, one split of it and one number of steps. Stages and seeds may be added: runs
that are there go on from where they are, or are done. Every file is written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from unstuck.lm.data import WordList
from unstuck.lm.errors import LmError
from unstuck.lm.files import read_whole, require_writable, write_atomically
from unstuck.lm.ladder import Run
from unstuck.lm.stages import BLOCK, split_by

FORMAT = "unstuck-ladder"
VERSION = 1
FILE = "ladder.json"
RESULTS = "results.json"


def open_folder(folder: Path, words: WordList, steps: int) -> None:
    """Make `folder` one of this word list and number of steps; raises LmError when it is of others."""
    require_writable(folder)
    path, split = folder / FILE, split_by(words.words)
    wanted = {"format": FORMAT, "version": VERSION, "steps": steps, "data": words.sha256, "split": split}
    if not path.exists():
        record = {**wanted, "source": words.source}
        _write(path, json.dumps(record, indent=1).encode("ascii"))
        return
    held = _read_record(path)
    if held.get("data") != words.sha256:
        raise LmError(f"{folder} holds a ladder of other data ({held.get('source')}): choose another --out")
    before = held.get("split", "words")  # as all ladders were split that do not say
    if before != split:
        raise LmError(f"{folder} holds a ladder split by {before}, now they are split by {split}: choose another --out")
    if held.get("steps") != steps:
        raise LmError(f"{folder} holds a ladder of {held.get('steps')} steps, not {steps}: choose another --out")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(read_whole(path))
    except OSError as error:
        raise LmError(f"{path} cannot be read ({error.strerror}): check its rights") from None
    except (ValueError, RecursionError) as error:
        raise LmError(f"{path} is not valid JSON ({error}): restore it, or choose another --out") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise LmError(f"{path} was not written by `unstuck lm ladder`: choose another --out")
    if record.get("version") != VERSION:
        raise LmError(
            f"{path} has format version {record.get('version')!r}, this program reads version {VERSION}: "
            "choose another --out"
        )
    return record


def save_runs(folder: Path, runs: Iterable[Run]) -> None:
    """Write each run's file in place of an earlier one; raises LmError when the disk refuses."""
    for run in runs:
        arrays = {name: np.ascontiguousarray(array) for name, array in run.network.arrays()}
        arrays["step"] = np.array([run.step])
        arrays["losses"] = np.array(run.losses, np.float64)
        _write(_path(folder, run), save_arrays(arrays))


def load_runs(folder: Path, runs: Iterable[Run], steps: int) -> None:
    """Bring each run to where its file in `folder` left it; those without one stay at step 0.

    Raises LmError for files that are damaged or do not fit.
    """
    for run in runs:
        path = _path(folder, run)
        if path.exists():
            _restore(run, path, steps)


def save_json(path: Path, data: dict[str, Any]) -> Path:
    """Write `data` as JSON, making the folder; returns `path`. Raises LmError when the disk refuses."""
    require_writable(path.parent)
    _write(path, json.dumps(data, indent=1).encode("ascii"))
    return path


def _path(folder: Path, run: Run) -> Path:
    return folder / f"{run.stage.name}-seed{run.seed}.safetensors"


def _restore(run: Run, path: Path, steps: int) -> None:
    damaged = f"{path} is damaged or of another program: delete it, and its run starts anew"
    try:
        held = load_arrays(read_whole(path))
    except OSError as error:
        raise LmError(f"{path} cannot be read ({error.strerror}): check its rights") from None
    except SafetensorError:
        raise LmError(damaged) from None
    wanted = dict(run.network.arrays())
    if held.keys() != {*wanted, "step", "losses"} or held["step"].shape != (1,):
        raise LmError(damaged)
    if held["step"].dtype != np.int64 or held["losses"].dtype != np.float64:
        raise LmError(damaged)
    step = int(held["step"][0])
    whole = 0 <= step <= steps and (step % BLOCK == 0 or step == steps)
    fits = all((held[name].shape, held[name].dtype) == (array.shape, array.dtype) for name, array in wanted.items())
    if not whole or not fits or held["losses"].shape != (-(-step // BLOCK),):
        raise LmError(damaged)
    for name, array in wanted.items():
        array[:] = held[name]
    run.step, run.losses = step, held["losses"].tolist()


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise LmError(f"{path} cannot be written ({error.strerror}): free some space or change --out") from None
