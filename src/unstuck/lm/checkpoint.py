"""A run on disk: checkpoint.json for what people read, one safetensors file for the tensors; no pickle.

The tensors file is named after its content and checkpoint.json, written last, names it, so that a crash at any moment
leaves the old checkpoint or the new one (https://huggingface.co/docs/safetensors). Everything is checked before any
of it is used: a checkpoint loads whole or not at all. The place in the learning-rate schedule is the step itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from unstuck.lm.data import Vocabulary, WordList
from unstuck.lm.errors import LmError
from unstuck.lm.files import read_whole, write_atomically
from unstuck.lm.model import CharModel, ModelConfig, blank_model, meta_model
from unstuck.lm.recipe import Recipe
from unstuck.lm.tokens import TokenFile

FORMAT = "unstuck-lm"
VERSION = 2
READABLE = (1, 2)  # 1 knew the mlp alone: the fields that came with 2 have their defaults
FILE = "checkpoint.json"
_TENSORS_FILE = re.compile(r"tensors-[0-9a-f]{16}\.safetensors")
_OPTIMIZER_STATE = {
    "sgd": (),
    "momentum": ("momentum_buffer",),
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
}
_JSON_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,)}
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on as if it had never stopped.

    `tensors` holds "model.<parameter or buffer>", "optimizer.<parameter>.<kind>" and "generator", the state of the one
    random generator that draws the initial weights and then the batches. `source` and `sha256` say which data.
    """

    config: ModelConfig
    recipe: Recipe
    vocabulary: Vocabulary
    source: str
    sha256: str
    step: int
    tensors: dict[str, Tensor]

    def model(self) -> CharModel:
        """A new model with the saved parameters, in evaluation mode."""
        model = blank_model(self.config, self.recipe.norm_momentum)
        prefix = "model."
        held = {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}
        model.load_state_dict(held)
        model.eval()
        return model

    def require_same_data(self, words: WordList | TokenFile) -> None:
        """Raise LmError unless `words` is the list that the run was started on."""
        if words.sha256 != self.sha256:
            raise LmError(
                f"{words.name} is not the data that the run was started on (its SHA-256 differs): "
                "give that data with --data, or start a new run"
            )


def holds_checkpoint(folder: Path) -> bool:
    """Whether `folder` has a checkpoint file, readable or not."""
    return (folder / FILE).exists()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `folder`, in place of one that is there; raises LmError when the disk refuses."""
    content = save_tensors({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    tensors = folder / f"tensors-{digest[:16]}.safetensors"
    record = {
        "format": FORMAT,
        "version": VERSION,
        "step": checkpoint.step,
        "model": asdict(checkpoint.config),
        "recipe": asdict(checkpoint.recipe),
        "data": {"source": checkpoint.source, "sha256": checkpoint.sha256},
        "vocabulary": checkpoint.vocabulary.characters,
        "tensors": {"file": tensors.name, "sha256": digest},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(tensors, content)
        write_atomically(folder / FILE, json.dumps(record, indent=1).encode("ascii"))
        for old in folder.iterdir():
            if _TENSORS_FILE.fullmatch(old.name) and old != tensors:
                old.unlink(missing_ok=True)
    except OSError as error:
        raise LmError(
            f"checkpoint {folder} cannot be written ({error.strerror}): free some space or change --out"
        ) from None


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint in `folder`; raises LmError when it is missing, damaged, foreign or of another version."""
    path = folder / FILE
    record = _read_record(path)
    try:
        checkpoint = _from_record(record, folder)
        _check_tensors(checkpoint)
    except LmError as error:
        raise LmError(f"checkpoint {path}: {error}") from None
    return checkpoint


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(read_whole(path))
    except (FileNotFoundError, NotADirectoryError):
        raise LmError(
            f"no checkpoint in {path.parent}: give a folder made by `unstuck lm train --out {path.parent}`"
        ) from None
    except OSError as error:
        raise LmError(f"checkpoint {path} cannot be read ({error.strerror}): check its rights") from None
    except (ValueError, RecursionError) as error:
        raise LmError(f"checkpoint {path} is not valid JSON ({error}): restore the file or train again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise LmError(f"checkpoint {path} was not written by `unstuck lm train`: give another folder")
    if record.get("version") not in READABLE:
        raise LmError(
            f"checkpoint {path} has format version {record.get('version')!r}, this program reads 1 and 2: "
            "use the release of unstuck that wrote it, or train again"
        )
    return record


def _from_record(record: dict[str, Any], folder: Path) -> Checkpoint:
    data, stored = (_mapping(record, key, ("sha256",)) for key in ("data", "tensors"))
    letters = record.get("vocabulary")
    if not isinstance(letters, list) or not all(isinstance(letter, str) for letter in letters):
        raise LmError("'vocabulary' is not a list of characters: restore the file or train again")
    checkpoint = Checkpoint(
        config=_parse(ModelConfig, record, "model"),
        recipe=_parse(Recipe, record, "recipe"),
        vocabulary=Vocabulary(tuple(letters)),
        source=_typed(data, "source", "str"),
        sha256=data["sha256"],
        step=_typed(record, "step", "int"),
        tensors=_read_tensors(folder, _typed(stored, "file", "str"), stored["sha256"]),
    )
    if len(checkpoint.vocabulary) != checkpoint.config.symbols:
        raise LmError(
            f"the vocabulary has {len(checkpoint.vocabulary)} symbols and the model {checkpoint.config.symbols}: "
            "restore the file or train again"
        )
    if not 0 <= checkpoint.step <= checkpoint.recipe.steps:
        raise LmError(f"step {checkpoint.step} is outside the recipe's {checkpoint.recipe.steps}: restore the file")
    return checkpoint


def _mapping(record: dict[str, Any], key: str, strings: tuple[str, ...]) -> dict[str, Any]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise LmError(f"{key!r} is missing: restore the file or train again")
    for name in strings:
        _typed(value, name, "str")
    return value


def _typed(record: dict[str, Any], key: str, kind: str) -> Any:
    value: Any = record.get(key)
    if isinstance(value, bool) != (kind == "bool") or not isinstance(value, _JSON_TYPES[kind]):
        raise LmError(f"{key!r} is {value!r}, not of type {kind}: restore the file or train again")
    try:
        return float(record[key]) if kind == "float" else value
    except OverflowError:
        raise LmError(f"{key!r} is too large a number: restore the file or train again") from None


def _parse(kind: type[_Record], record: dict[str, Any], key: str) -> _Record:
    """A dataclass of numbers and strings from its JSON form; the keys must be exactly the version's fields."""
    value = _mapping(record, key, ())
    known = [field for field in fields(kind) if field.metadata.get("since", 1) <= record["version"]]  # type: ignore[arg-type]
    names = {field.name: str(field.type) for field in known}
    if odd := sorted(set(value) ^ set(names)):
        raise LmError(f"{key!r} has missing or unknown entries ({', '.join(odd)}): restore the file or train again")
    return kind(**{name: _typed(value, name, type_name) for name, type_name in names.items()})


def _read_tensors(folder: Path, name: str, digest: str) -> dict[str, Tensor]:
    if not _TENSORS_FILE.fullmatch(name):
        raise LmError(f"{name!r} is no name of a tensors file: restore the file or train again")
    try:
        content = read_whole(folder / name)
    except OSError as error:
        raise LmError(
            f"its tensors {name} cannot be read ({error.strerror}): restore the file or train again"
        ) from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise LmError(f"its tensors {name} are truncated or changed ({len(content)} bytes): restore it or train again")
    try:
        tensors: dict[str, Tensor] = load_tensors(content)
    except (SafetensorError, ValueError) as error:
        raise LmError(f"its tensors {name} are not a safetensors file ({error}): restore it or train again") from None
    return tensors


def _check_tensors(checkpoint: Checkpoint) -> None:
    wanted, held = _expected(checkpoint), checkpoint.tensors
    for problem, names in (("lacks", wanted.keys() - held.keys()), ("has unknown", held.keys() - wanted.keys())):
        if names:
            raise LmError(f"{problem} tensors ({', '.join(sorted(names)[:3])}): restore the files or train again")
    for name, like in wanted.items():
        found = held[name]
        if (found.shape, found.dtype) != (like.shape, like.dtype):
            raise LmError(
                f"tensor {name} is {found.dtype} {tuple(found.shape)} where the model has {like.dtype} "
                f"{tuple(like.shape)}: restore the files or train again"
            )
    try:
        torch.Generator().set_state(held["generator"])
    except RuntimeError:
        raise LmError("the random generator's state is damaged: restore the files or train again") from None


def _expected(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The names a checkpoint must have, each with a tensor of its shape and type that takes no memory."""
    model = meta_model(checkpoint.config)
    scalar = torch.zeros((), device="meta")
    wanted = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    kinds = _OPTIMIZER_STATE[checkpoint.recipe.optimizer] if checkpoint.step else ()
    for name, parameter in model.named_parameters():
        for kind in kinds:
            wanted[f"optimizer.{name}.{kind}"] = scalar if kind == "step" else parameter.data
    wanted["generator"] = torch.Generator().get_state()
    return wanted
