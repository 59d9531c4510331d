from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import unstuck
from unstuck.cli import lm_train as command
from unstuck.cli.lm import app
from unstuck.lm.checkpoint import load_checkpoint
from unstuck.lm.data import read_words

SMALL = ("--no-preflight", "--hidden", "8", "--batch-size", "16")
Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "names.txt"
    path.write_text("\n".join(read_words().words[:300]))
    return path


@pytest.fixture
def invoke() -> Iterator[Invoke]:
    threads = torch.get_num_threads()
    yield lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert torch.get_num_threads() == threads


@pytest.fixture
def train(invoke: Invoke, names: Path, tmp_path: Path) -> Invoke:
    """Train a small model into `tmp_path / "out"`."""

    def run(*arguments: object, steps: int = 30) -> Result:
        return invoke("train", "--data", names, "--out", tmp_path / "out", *SMALL, "--steps", steps, *arguments)

    return run


def refused(result: Result) -> str:
    """The one line of an error."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("unstuck: ")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder).tensors


def same(one: Path, other: Path) -> bool:
    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_says_what_it_did_and_saves(train: Invoke, tmp_path: Path, names: Path) -> None:
    result = train()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert re.fullmatch(
        rf"data: {re.escape(str(names))}, 300 words, 27 symbols, [\d,]+ / \d+ / \d+ examples \(train / val / test\)",
        lines[0],
    )
    assert lines[1] == "model: 1 × 8 tanh, kaiming init, norm batch, 769 parameters"
    assert re.fullmatch(r"trained 30 steps in \d+\.\d s \([\d,]+ steps/s\)", lines[2])
    assert lines[3] == f"finished at step 30 of 30, saved to {tmp_path}/out"
    assert [line.split(":")[0] for line in lines[4:]] == ["train", "val"]
    assert result.stderr == ""
    assert load_checkpoint(tmp_path / "out").step == 30


@pytest.mark.parametrize(
    ("options", "model", "recipe"),
    [
        (
            "--context 2 --embedding 4 --depth 2 --activation gelu --init fan-in --norm layer",
            {"context": 2, "embedding": 4, "depth": 2, "activation": "gelu", "init": "fan-in", "norm": "layer"},
            {"optimizer": "adamw"},
        ),
        (
            "--recipe lecture --seed 5 --norm-momentum 0.5 --weight-decay 0.25",
            {"norm": "batch", "hidden": 8},
            {"optimizer": "sgd", "lr": 0.1, "seed": 5, "norm_momentum": 0.5, "weight_decay": 0.25, "split": "lines"},
        ),
        (
            "--optimizer momentum --lr 0.2 --schedule constant --targets drawn --split lines",
            {},
            {"optimizer": "momentum", "lr": 0.2, "schedule": "constant", "targets": "drawn", "split": "lines"},
        ),
    ],
)
def test_every_option_reaches_the_run(
    train: Invoke, tmp_path: Path, options: str, model: dict[str, Any], recipe: dict[str, Any]
) -> None:
    assert train(*options.split()).exit_code == 0
    saved = load_checkpoint(tmp_path / "out")
    assert {name: getattr(saved.config, name) for name in model} == model
    assert {name: getattr(saved.recipe, name) for name in recipe} == recipe
    assert (saved.recipe.steps, saved.recipe.batch_size) == (30, 16)


def test_the_preflight_report_comes_before_training(train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def check(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor], loss_fn: Any) -> SimpleNamespace:
        seen.append(loss_fn(model(batch[0]), batch[1]).item())
        return SimpleNamespace(render=lambda: "all is well; 3 rules not checked (-v says why)")

    monkeypatch.setattr(unstuck, "check", check, raising=False)
    assert "all is well" not in train().stdout
    assert not seen
    output = train("--preflight", "--overwrite").stdout
    assert 0 < output.index("all is well") < output.index("trained 30 steps")
    assert len(seen) == 1
    assert "-v" not in output  # this command has no such option


def test_the_rate_does_not_count_the_preflight(train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check takes 1,000 s of a clock that every question puts forward by 1 ms."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.001
        return now

    def check(*_: object) -> SimpleNamespace:
        nonlocal now
        now += 1000
        return SimpleNamespace(render=lambda: "all is well")

    monkeypatch.setattr(command, "time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(unstuck, "check", check, raising=False)
    assert "trained 1 step in 0.0 s (" in train("--preflight", steps=1).stdout
    assert now > 1000


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_preflight_leaves_no_trace_in_the_run(train: Invoke, tmp_path: Path, norm: str) -> None:
    checked = train("--norm", norm, "--preflight", "--out", tmp_path / "checked")
    assert checked.exit_code == 0
    plain = train("--norm", norm, "--out", tmp_path / "plain")
    assert len(checked.stdout) > len(plain.stdout) + 100
    assert same(tmp_path / "checked", tmp_path / "plain")


def test_evaluation_and_sampling_of_what_was_trained(invoke: Invoke, train: Invoke, tmp_path: Path) -> None:
    trained, out = train().stdout, tmp_path / "out"
    loss = r"loss \d\.\d{4} nats \(perplexity \d+\.\d{3}\) over [\d,]+ examples"
    evaluated = invoke("eval", out)
    assert evaluated.stdout.strip() == trained.splitlines()[-1]
    assert re.fullmatch(f"val: {loss}\n", evaluated.stdout)
    for part in ("train", "test", "all"):
        assert re.fullmatch(f"{part}: {loss}\n", invoke("eval", out, "--split", part).stdout)
    saved = tensors(out)["model.hidden.0.norm.running_mean"]
    assert invoke("eval", out, "--recalibrate").stdout != evaluated.stdout
    assert torch.equal(tensors(out)["model.hidden.0.norm.running_mean"], saved)
    words = invoke("sample", out, "-n", 20, "--seed", 3).stdout.splitlines()
    assert len(words) == 20
    assert all(words)
    assert invoke("sample", out, "-n", 5, "--seed", 3).stdout.splitlines() == words[:5]
    assert invoke("sample", out, "--seed", 4).stdout.splitlines() != words
    assert max(map(len, invoke("sample", out, "--max-length", 2).stdout.splitlines())) == 2


def test_other_data_is_evaluated_whole(invoke: Invoke, train: Invoke, tmp_path: Path, names: Path) -> None:
    train()
    other = tmp_path / "other.txt"
    other.write_text("ava\nzoe\n")
    assert invoke("eval", tmp_path / "out", "--data", other).stdout.startswith("all: ")
    assert "over 8 examples" in invoke("eval", tmp_path / "out", "--data", other).stdout
    assert invoke("eval", tmp_path / "out", "--data", other, "--recalibrate").exit_code == 0
    moved = tmp_path / "moved.txt"
    moved.write_bytes(names.read_bytes())
    assert invoke("eval", tmp_path / "out", "--data", moved).stdout == invoke("eval", tmp_path / "out").stdout


def test_changed_data_is_noted_and_not_resumed_on(invoke: Invoke, train: Invoke, tmp_path: Path, names: Path) -> None:
    data, out = tmp_path / "words.txt", tmp_path / "out"
    data.write_bytes(names.read_bytes())
    train("--data", data, "--stop-at", 10)
    data.write_bytes(names.read_bytes() + b"\nzoe")
    result = invoke("eval", out)
    assert result.stdout.startswith("val: ")
    assert result.stderr == (
        f"unstuck: note: {data} has changed since training: its parts are not those that the model was trained on\n"
    )
    message = f"{data} is not the data that the run was started on (its SHA-256 differs): "
    assert refused(invoke("train", "--resume", out)).startswith(message)
    assert refused(invoke("eval", out, "--recalibrate")).startswith(message)
    assert invoke("train", "--resume", out, "--data", names).exit_code == 0


def test_a_stopped_run_goes_on_to_the_same_end(invoke: Invoke, train: Invoke, tmp_path: Path) -> None:
    straight, out = tmp_path / "straight", tmp_path / "out"
    train("--out", straight)
    stopped = train("--stop-at", 12)
    assert stopped.exit_code == 0
    assert f"stopped at step 12 of 30, saved to {out}\ngo on with: unstuck lm train --resume {out}" in stopped.stdout
    resumed = invoke("train", "--resume", out)
    assert "trained 18 steps" in resumed.stdout
    assert same(straight, out)
    assert refused(invoke("train", "--resume", out)) == (
        f"the run in {out} has done all its 30 steps: start a new one with more --steps"
    )


def test_an_interrupt_saves_and_ends_with_130(
    invoke: Invoke, train: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, out = tmp_path / "straight", tmp_path / "out"
    train("--out", straight)
    with monkeypatch.context() as patch:
        patch.setattr(command._Bar, "update", lambda _, step, loss: step == 7 and signal.raise_signal(signal.SIGINT))
        result = train()
    assert result.exit_code == 130
    assert f"interrupted at step 7 of 30, saved to {out}\ngo on with: unstuck lm train --resume {out}" in result.stdout
    assert invoke("train", "--resume", out).exit_code == 0
    assert same(straight, out)


def test_the_run_is_saved_on_the_way(train: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, save = [], command.save_checkpoint
    monkeypatch.setattr(command, "save_checkpoint", lambda f, c: (saved.append(c.step), save(f, c)))
    train("--save-every", 12)
    assert saved == [12, 24, 30]


def test_repeated_words_that_leak_are_noted(train: Invoke, tmp_path: Path) -> None:
    data = tmp_path / "twice.txt"
    data.write_text("\n".join(read_words().words[:100] * 2))
    result = train("--data", data, "--split", "lines")
    assert re.fullmatch(
        r"unstuck: note: \d+ of 20 validation words also stand in training, as the file repeats them: "
        r"--split words keeps them apart\n",
        result.stderr,
    )
    assert train("--data", data, "--overwrite").stderr == ""


def test_the_bar_shows_loss_rate_and_time_left_on_a_terminal(train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "REFRESH", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", train(steps=200).stderr)
    assert re.search(r"step [\d,]+/200 .*loss \d\.\d{4} +[\d,]+ steps/s .*\d:\d\d", shown)


def test_an_output_folder_that_cannot_be_used_is_found_before_the_data_are_read(
    train: Invoke, invoke: Invoke, tmp_path: Path, names: Path
) -> None:
    missing = ("--data", tmp_path / "nowhere.txt")
    assert refused(train(*missing, "--out", names)) == f"output folder {names} is a file: choose another --out"
    below = names / "below"
    assert refused(train(*missing, "--out", below)) == (
        f"output folder {below} is not writable (Not a directory): choose another --out"
    )
    assert refused(invoke("train")) == "no output folder: give one with --out DIR"


def test_a_checkpoint_is_not_overwritten_unasked(train: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train()
    assert refused(train()) == (
        f"output folder {out} holds a checkpoint: go on with --resume {out}, "
        "replace it with --overwrite, or choose another --out"
    )
    assert train("--overwrite", "--seed", 9).exit_code == 0
    assert load_checkpoint(out).recipe.seed == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--recipe slow", "unknown --recipe 'slow': choose one of fast, lecture"),
        ("--activation tahn", "unknown activation 'tahn': choose one of tanh, relu, leaky_relu, elu, selu, gelu, "),
        ("--init xavier", "unknown init 'xavier': choose one of naive, small-output, fan-in, kaiming"),
        ("--norm group", "unknown norm 'group': choose one of none, batch, layer"),
        ("--optimizer lion", "unknown optimizer 'lion': choose one of sgd, momentum, adam, adamw"),
        ("--schedule x", "unknown schedule 'x': choose one of constant, halfway-drop, one-cycle"),
        ("--targets x", "unknown targets 'x': choose one of drawn, counted"),
        ("--split x", "unknown split 'x': choose one of words, lines"),
        ("--depth 0", "depth is 0: give a whole number from 1 to 1000"),
        ("--lr 0", "lr is 0.0: give a number above 0"),
        ("--threads 0", "--threads is 0: give a whole number from 1 to 1024"),
        ("--save-every -1", "--save-every is -1: give a whole number from 0 to 281474976710656"),
        ("--stop-at 31", "--stop-at is 31: give a step after 0 and up to the run's last, 30"),
        ("--stop-at 0", "--stop-at is 0: give a step after 0 and up to the run's last, 30"),
        ("--batch-size 1", "batch size is 1, and BatchNorm needs at least 2 examples: raise it, or change the norm"),
        (
            "--norm layer --norm-momentum 0.5",
            "--norm-momentum does nothing with --norm layer: leave it out, or use --norm batch",
        ),
        ("--lr 1e30 --recipe lecture --norm none --activation relu", "the loss is "),
        ("--data nowhere.txt", "data file nowhere.txt does not exist: give a text file with one word per line"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(
    train: Invoke, tmp_path: Path, arguments: str, message: str
) -> None:
    assert refused(train(*arguments.split())).startswith(message)
    assert not (tmp_path / "out" / "checkpoint.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no words: give a text file with one word per line"),
        (b"\x89PNG\r\n", "line 1 (byte offset 0) is not UTF-8 text: 0x89 cannot stand there; save the file as UTF-8"),
        (b"ava\n", "holds one word only: give at least 6 different words"),
        (b"a\nb\nc\n", "holds 3 different words, and the 80/10/10 split leaves no validation word: give at least 6 d"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(
    train: Invoke, tmp_path: Path, content: bytes, message: str
) -> None:
    data = tmp_path / "words.txt"
    data.write_bytes(content)
    assert refused(train("--data", data)).startswith(f"{data} {message}")


@pytest.mark.parametrize("option", ["--lr 0.1", "--steps 50", "--hidden 9", "--recipe fast", "--seed 0"])
def test_a_resumed_run_takes_no_new_options(invoke: Invoke, train: Invoke, tmp_path: Path, option: str) -> None:
    train("--stop-at", 10)
    name, value = option.split()
    assert refused(invoke("train", "--resume", tmp_path / "out", name, value)) == (
        f"{name} cannot be given with --resume: the run goes on as it began; leave it out"
    )


def test_a_checkpoint_that_is_missing_or_damaged_is_refused(invoke: Invoke, train: Invoke, tmp_path: Path) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    for arguments in (("train", "--resume", nowhere), ("eval", nowhere), ("sample", nowhere)):
        assert refused(invoke(*arguments)) == (
            f"no checkpoint in {nowhere}: give a folder made by `unstuck lm train --out {nowhere}`"
        )
    assert not nowhere.exists()
    train("--stop-at", 10)
    (path,) = out.glob("tensors-*")
    path.write_bytes(path.read_bytes()[:-1])
    for arguments in (("train", "--resume", out), ("eval", out), ("sample", out)):
        assert f"{path.name} are truncated or changed" in refused(invoke(*arguments))


def test_evaluation_refuses_what_it_cannot_do(invoke: Invoke, train: Invoke, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other.txt"
    train("--norm", "layer")
    other.write_text("ava\nzoé\n")
    assert refused(invoke("eval", out, "--data", other)) == (
        f"{other} line 2: the word 'zoé' holds 'é' (U+00E9), which the vocabulary of 26 characters lacks: "
        "remove the word, or train on data that has it"
    )
    other.write_text("ava\nzoe\n")
    assert refused(invoke("eval", out, "--data", other, "--split", "val")).startswith(
        f"{other} holds 2 different words, and"
    )
    assert refused(invoke("eval", out, "--split", "dev")) == (
        "unknown --split 'dev': choose one of train, val, test, all"
    )
    assert refused(invoke("eval", out, "--recalibrate")) == (
        "--recalibrate needs a model with BatchNorm, and this one has norm layer: leave it out"
    )
    assert refused(invoke("sample", out, "-n", 0)).startswith("--count is 0: give a whole number from 1 to")
    assert refused(invoke("sample", out, "--threads", 0)) == "--threads is 0: give a whole number from 1 to 1024"
