from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from unstuck.lm.checkpoint import Checkpoint, holds_checkpoint, load_checkpoint, save_checkpoint
from unstuck.lm.errors import LmError
from unstuck.lm.train import Run, train


@pytest.fixture
def run(new_run: Callable[..., Run]) -> Run:
    run = new_run(depth=2)
    train(run, stop_at=3)
    return run


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "saved", run.checkpoint())
    return tmp_path / "saved"


def tensors_file(folder: Path) -> Path:
    (path,) = folder.glob("tensors-*.safetensors")
    return path


def edit(folder: Path, *keys: str, value: Any) -> None:
    """Change one entry of the JSON file; ... removes it."""
    path = folder / "checkpoint.json"
    record = json.loads(path.read_text())
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    if value is ...:
        del inner[keys[-1]]
    path.write_text(json.dumps(record))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors and make the JSON file agree about their digest."""
    tensors = load_file(tensors_file(folder))
    change(tensors)
    replace_content(folder, save(tensors))


def replace_content(folder: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    tensors_file(folder).unlink()
    name = f"tensors-{digest[:16]}.safetensors"
    (folder / name).write_bytes(content)
    edit(folder, "tensors", value={"file": name, "sha256": digest})


def refusal(folder: Path) -> str:
    with pytest.raises(LmError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"checkpoint {folder / 'checkpoint.json'}").removeprefix(": ")


def test_what_is_saved_is_what_is_loaded(run: Run, folder: Path) -> None:
    saved, loaded = run.checkpoint(), load_checkpoint(folder)
    for name in Checkpoint.__dataclass_fields__:
        if name != "tensors":
            assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.tensors.keys() == saved.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], saved.tensors[name]) for name in saved.tensors)
    assert loaded.source == "shipped:names.txt"


def test_the_loaded_model_is_the_saved_one_in_evaluation_mode(run: Run, folder: Path) -> None:
    contexts = run.corpus.val.contexts
    model = load_checkpoint(folder).model()
    assert not model.training
    assert model.layers[0].norm.momentum == run.recipe.norm_momentum
    assert torch.equal(model(contexts), run.model.eval()(contexts))


def test_a_folder_holds_two_files_and_no_pickle(run: Run, folder: Path) -> None:
    train(run, stop_at=5)
    save_checkpoint(folder, run.checkpoint())
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    assert len(list(folder.iterdir())) == 2
    assert load_checkpoint(folder).step == 5


def test_a_checkpoint_of_version_1_is_read_as_it_was_meant(run: Run, folder: Path) -> None:
    edit(folder, "version", value=1)
    assert refusal(folder).startswith("'model' has missing or unknown entries (dropout, heads, kind, residual)")
    for section, names in (("model", ("kind", "residual", "dropout", "heads")), ("recipe", ("lower", "min_count"))):
        for name in names:
            edit(folder, section, name, value=...)
    loaded, saved = load_checkpoint(folder), run.checkpoint()
    assert (loaded.config, loaded.recipe) == (saved.config, saved.recipe)
    assert train(Run.resume(loaded, run.corpus), stop_at=9) == train(run, stop_at=9)


@pytest.mark.parametrize("crash_at", [1, 2])
def test_a_crash_while_saving_leaves_the_old_checkpoint(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    calls, replace = [], os.replace

    def crash(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == crash_at:
            raise OSError(5, "Input/output error")
        replace(source, target)

    train(run, stop_at=4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(LmError) as caught:
            save_checkpoint(folder, run.checkpoint())
    assert str(caught.value) == (
        f"checkpoint {folder} cannot be written (Input/output error): free some space or change --out"
    )
    assert load_checkpoint(folder).step == 3
    save_checkpoint(folder, run.checkpoint())
    assert load_checkpoint(folder).step == 4
    assert len(list(folder.iterdir())) == 2


def test_a_missing_checkpoint_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        assert not (folder.is_dir() and holds_checkpoint(folder))
        assert refusal(folder) == (
            f"no checkpoint in {folder}: give a folder made by `unstuck lm train --out {folder}`"
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": "unstuck-lm"', " is not valid JSON (Expecting"),
        (b"\xff\xfe\x00", " is not valid JSON ("),
        (b"[" * 100_000, " is not valid JSON ("),
        (b"[]", " was not written by `unstuck lm train`: give another folder"),
        (b'{"format": "other"}', " was not written by `unstuck lm train`: give another folder"),
        (
            b'{"format": "unstuck-lm", "version": 3}',
            " has format version 3, this program reads 1 and 2: "
            "use the release of unstuck that wrote it, or train again",
        ),
        (b'{"format": "unstuck-lm", "version": 1}', "'data' is missing: restore the file or train again"),
    ],
    ids=["cut", "binary", "deep", "list", "foreign", "version", "bare"],
)
def test_a_json_file_that_is_no_checkpoint_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / "checkpoint.json").write_bytes(content)
    assert refusal(folder).startswith(message)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("model", "hidden"), ..., "'model' has missing or unknown entries (hidden)"),
        (("model", "width"), 3, "'model' has missing or unknown entries (width)"),
        (("model", "hidden"), "20", "'hidden' is '20', not of type int"),
        (("model", "hidden"), True, "'hidden' is True, not of type int"),
        (("model", "residual"), 1, "'residual' is 1, not of type bool"),
        (("model", "kind"), "lstm", "unknown model 'lstm': choose one of mlp, gru, transformer"),
        (("model", "norm"), "group", "unknown norm 'group': choose one of none, batch, layer"),
        (("recipe", "lr"), -1, "lr is -1.0: give a number above 0"),
        (("recipe", "lr"), 10**400, "'lr' is too large a number: restore the file or train again"),
        (("recipe",), [], "'recipe' is missing"),
        (("step",), "3", "'step' is '3', not of type int"),
        (("step",), 101, "step 101 is outside the recipe's 100"),
        (("vocabulary",), ["a", 1], "'vocabulary' is not a list of characters"),
        (("vocabulary",), ["b", "a"], "a vocabulary must be sorted and without repetition"),
        (("vocabulary",), ["a", "b"], "the vocabulary has 3 symbols and the model 27"),
        (("tensors", "file"), "../tensors.safetensors", "'../tensors.safetensors' is no name of a tensors file"),
        (
            ("tensors", "file"),
            "tensors-0123456789abcdef.safetensors",
            "its tensors tensors-0123456789abcdef.safetensors",
        ),
        (("data", "sha256"), None, "'sha256' is None, not of type str"),
        (
            ("model", "hidden"),
            65536,
            "tensor model.hidden.0.linear.weight is torch.float32 (20, 30) where the model has",
        ),
        (("model", "depth"), 3, "lacks tensors (model.hidden.2.linear.weight, model.hidden.2.norm.bias, "),
        (("model", "depth"), 1, "has unknown tensors (model.hidden.1.linear.weight, model.hidden.1.norm.bias, "),
        (("recipe", "optimizer"), "sgd", "has unknown tensors (optimizer.embedding.weight.exp_avg, "),
        (("step",), 0, "has unknown tensors (optimizer.embedding.weight.exp_avg, "),
    ],
    ids=lambda part: str(part)[:40],
)
def test_an_entry_that_cannot_be_is_refused(folder: Path, keys: tuple[str, ...], value: Any, message: str) -> None:
    edit(folder, *keys, value=value)
    assert refusal(folder).startswith(message)


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_truncated_tensors_are_refused(folder: Path, keep: int) -> None:
    path = tensors_file(folder)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(folder) == (
        f"its tensors {path.name} are truncated or changed ({keep} bytes): restore it or train again"
    )


def test_a_file_of_tensors_that_is_none_is_refused(folder: Path) -> None:
    replace_content(folder, b"not tensors at all")
    assert "are not a safetensors file (" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.output.bias"), "lacks tensors (model.output.bias): restore the files or train again"),
        (lambda t: t.pop("generator"), "lacks tensors (generator): restore the files or train again"),
        (lambda t: t.update(extra=torch.ones(1)), "has unknown tensors (extra): restore the files or train again"),
        (
            lambda t: t.update({"model.output.bias": torch.ones(26)}),
            "tensor model.output.bias is torch.float32 (26,) where the model has torch.float32 (27,): "
            "restore the files or train again",
        ),
        (
            lambda t: t.update({"model.output.bias": torch.ones(27, dtype=torch.float64)}),
            "tensor model.output.bias is torch.float64 (27,) where the model has torch.float32 (27,): "
            "restore the files or train again",
        ),
        (
            lambda t: t["generator"].fill_(255),
            "the random generator's state is damaged: restore the files or train again",
        ),
    ],
    ids=["missing", "no-generator", "extra", "shape", "dtype", "generator"],
)
def test_tensors_that_do_not_fit_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    rewrite(folder, change)
    assert refusal(folder) == message
