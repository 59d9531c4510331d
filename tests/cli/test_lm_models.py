"""`unstuck lm` beyond the MLP: other models, token files, scores, and how words are drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from unstuck.cli import lm_train
from unstuck.cli.lm import app
from unstuck.lm.checkpoint import load_checkpoint
from unstuck.lm.data import read_words

SMALL = ("--no-preflight", "--embedding", "8", "--hidden", "8", "--batch-size", "16")
Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "names.txt"
    path.write_text("\n".join(read_words().words[:300]))
    return path


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model lstm", "unknown model 'lstm': choose one of mlp, gru, transformer"),
        ("--model gru --norm batch", "norm is batch and a model of kind gru has none: leave it out, or choose another"),
        ("--model gru --residual", "residual is True and a model of kind gru has False: leave it out, or choose"),
        ("--model transformer --heads 3", "embedding is 8 and heads is 3: give an embedding that is a multiple of it"),
        ("--dropout 0.5", "dropout is 0.5 and a model of kind mlp has 0.0: leave it out, or choose another model"),
        ("--model gru --targets counted", "--targets counted cannot be had with --model gru: leave it out, or use"),
        ("--split hash --targets counted", "--targets counted cannot be had with --split hash: leave it out, or use"),
        ("--model gru --norm-momentum 0.5", "--norm-momentum does nothing with --norm none: leave it out, or use"),
        ("--min-count 0", "min count is 0: give a whole number from 1 to 281474976710656"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_one_line(
    train: Invoke, tmp_path: Path, arguments: str, message: str
) -> None:
    assert refused(train(*arguments.split())).startswith(message)
    assert not (tmp_path / "out" / "checkpoint.json").exists()


def test_rare_characters_that_leave_no_word_are_refused(train: Invoke, names: Path) -> None:
    for split in ("words", "hash"):
        message = refused(train("--min-count", 100_000, "--split", split))
        assert message.startswith(f"{names}: ")
        assert message.endswith(": lower --min-count")


@pytest.mark.parametrize(
    ("options", "model", "recipe"),
    [
        ("--model gru --depth 2", "gru, 2 × 8, context 32, dropout 0.2", "words"),
        (
            "--model transformer --heads 2",
            "transformer, 2 × (8 wide, 2 heads, 8 gelu), context 32, dropout 0",
            "words",
        ),
        ("--depth 3 --residual", "3 × 8 tanh, residual, kaiming init, norm batch", "fast"),
    ],
)
def test_each_kind_of_model_trains_and_is_used(
    invoke: Invoke, train: Invoke, tmp_path: Path, options: str, model: str, recipe: str
) -> None:
    out = tmp_path / "out"
    trained = train(*options.split())
    assert trained.exit_code == 0, trained.output
    assert trained.stdout.splitlines()[1].startswith(f"model: {model}, ")
    assert load_checkpoint(out).recipe.targets == ("counted" if recipe == "fast" else "drawn")
    assert invoke("eval", out).stdout.strip() == trained.stdout.splitlines()[-1]
    words = invoke("sample", out, "-n", 5).stdout.splitlines()
    assert len(words) == 5
    assert refused(invoke("train", "--resume", out, "--model", "gru")) == (
        "--model cannot be given with --resume: the run goes on as it began; leave it out"
    )


@pytest.mark.slow
def test_the_preflight_check_reads_a_word_model(train: Invoke) -> None:
    result = train("--model", "gru", "--preflight", steps=2)
    assert result.exit_code == 0, result.output
    assert "a check of CharGRU" in result.stdout


def test_words_are_scored_symbol_by_symbol(invoke: Invoke, train: Invoke, tmp_path: Path) -> None:
    train()
    lines = invoke("score", tmp_path / "out", "ava", "olivia").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ava", "olivia"]
    for line in lines:
        found = re.fullmatch(r"\w+ +(\d+\.\d{4}) nats per character  \((.*)\)", line)
        assert found
        symbols = found[2].split("  ")
        assert [one.split()[0] for one in symbols] == [*line.split()[0], "end"]
        mean = sum(float(one.split()[1]) for one in symbols) / len(symbols)
        assert mean == pytest.approx(float(found[1]), abs=0.006)
    assert refused(invoke("score", tmp_path / "out", "zoé")) == (
        "the word 'zoé': the model does not know 'é' (U+00E9): leave it out, or use a model trained on words that "
        "have it"
    )
    assert refused(invoke("score", tmp_path / "out", "Zoe")) == (
        "the word 'Zoe': the model does not know 'Z' (U+005A): write 'zoe'"
    )
    assert refused(invoke("score", tmp_path / "out", "ava", " ")) == (
        "an empty word cannot be scored: give words of at least one character"
    )


def test_words_are_drawn_as_asked(invoke: Invoke, train: Invoke, tmp_path: Path, names: Path) -> None:
    train(steps=200)
    out = tmp_path / "out"

    def drawn(*options: object) -> list[str]:
        result = invoke("sample", out, "-n", 200, *options)
        assert result.exit_code == 0, result.output
        return list(result.stdout.splitlines())

    assert all(word.startswith("ma") for word in drawn("--prefix", "ma"))
    assert len(set(drawn("--top-k", 1))) == 1
    assert len(set(drawn("--temperature", 0.3))) < len(set(drawn())) < 200
    assert drawn("--threads", 2) == drawn()
    new = drawn("--unique", "--max-length", 3)
    assert len(set(new)) == 200
    assert set(names.read_text().split()) & set(drawn("--max-length", 3))
    trained_on = set(lm_train.open_corpus(names, load_checkpoint(out).config, load_checkpoint(out).recipe).split.train)
    assert not trained_on & set(new)
    assert refused(invoke("sample", out, "--prefix", "é")).startswith(
        "--prefix 'é': the model does not know 'é' (U+00E9)"
    )
    assert refused(invoke("sample", out, "--temperature", 0)) == "--temperature is 0.0: give a number above 0"
    names_moved = names.rename(tmp_path / "moved.txt")
    assert refused(invoke("sample", out, "--unique")).startswith(f"data file {names} does not exist: ")
    names_moved.rename(names)


def test_the_statistics_of_batch_norm_are_chosen(invoke: Invoke, train: Invoke, tmp_path: Path) -> None:
    train()
    out = tmp_path / "out"
    shown = {name: invoke("eval", out, "--bn-eval", name).stdout for name in ("running", "recalibrated", "batch")}
    assert len(set(shown.values())) == 3
    assert shown["running"] == invoke("eval", out).stdout
    assert shown["recalibrated"] == invoke("eval", out, "--recalibrate").stdout
    assert refused(invoke("eval", out, "--bn-eval", "exact")) == (
        "unknown --bn-eval 'exact': choose one of running, recalibrated, batch"
    )
    assert refused(invoke("eval", out, "--recalibrate", "--bn-eval", "batch")) == (
        "--recalibrate and --bn-eval batch contradict each other: leave one out"
    )
    train("--norm", "layer", "--overwrite")
    assert refused(invoke("eval", out, "--bn-eval", "batch")) == (
        "--bn-eval batch needs a model with BatchNorm, and this one has norm layer: leave it out"
    )


@pytest.mark.parametrize("kind", ["mlp", "gru"])
def test_a_token_file_trains_resumes_and_evaluates_as_a_list_in_memory_does(
    invoke: Invoke, train: Invoke, tmp_path: Path, names: Path, kind: str
) -> None:
    straight, out = tmp_path / "straight", tmp_path / "out"
    options = ("--model", kind, "--split", "hash")
    trained = train(*options, "--out", straight)
    assert trained.exit_code == 0, trained.output
    assert train(*options, "--stop-at", 12).exit_code == 0
    assert invoke("train", "--resume", out).exit_code == 0
    one, other = load_checkpoint(straight).tensors, load_checkpoint(out).tensors
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert invoke("eval", out).stdout.strip() == trained.stdout.splitlines()[-1]
    assert len(invoke("sample", out, "--unique", "-n", 30).stdout.splitlines()) == 30
    if kind == "mlp":
        assert invoke("eval", out, "--recalibrate").stdout.startswith("val: loss ")
    other_data = tmp_path / "other.txt"
    other_data.write_text("ava\nzoe\n")
    assert "over 8 examples" in invoke("eval", out, "--data", other_data).stdout
    assert refused(invoke("eval", out, "--data", other_data, "--split", "val")) == (
        f"{other_data} was not trained on and has no parts: leave --split out, or use --split all"
    )
    assert refused(invoke("eval", out, "--split", "all")).startswith("--split all needs the words in memory: evaluate")


def test_changed_data_of_a_token_file_are_refused(invoke: Invoke, train: Invoke, tmp_path: Path, names: Path) -> None:
    data = tmp_path / "words.txt"
    data.write_bytes(names.read_bytes())
    train("--data", data, "--split", "hash", "--stop-at", 5)
    data.write_bytes(names.read_bytes() + b"\nzoe")
    assert refused(invoke("eval", tmp_path / "out")) == (
        f"{data} has changed since training, and its parts with it: evaluate it whole with --data {data}"
    )
    assert invoke("eval", tmp_path / "out", "--data", data).stdout.startswith("all: ")
    assert refused(invoke("train", "--resume", tmp_path / "out")).startswith(
        f"{data} is not the data that the run was started on (its SHA-256 differs): "
    )


def test_a_large_file_is_split_by_hash_and_says_so(
    train: Invoke, tmp_path: Path, names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_train, "STREAMED_FROM", 1000)
    result = train(steps=3)
    assert result.stderr == (
        f"unstuck: note: {names} is large: its words are split by hash, and read from token files in "
        f"{tmp_path}/cache/unstuck\n"
    )
    saved = load_checkpoint(tmp_path / "out")
    assert (saved.recipe.split, saved.recipe.targets) == ("hash", "drawn")
    assert train("--split", "words", "--overwrite", steps=3).stderr == ""
    assert load_checkpoint(tmp_path / "out").recipe.split == "words"


def test_the_reading_of_a_token_file_is_shown_on_a_terminal(train: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", train("--split", "hash", steps=3).stderr)
    assert "reading words" in shown


@pytest.mark.parametrize("split", ["words", "hash"])
def test_unicode_words_go_all_the_way(invoke: Invoke, train: Invoke, tmp_path: Path, split: str) -> None:
    data = tmp_path / "words.txt"
    pairs = [f"{a}{b}" for a in "ÄБ名😀éz" for b in "ñШ前🎉öy"]
    data.write_text("\n".join([*pairs, "ẞ"]), encoding="utf-8")
    out = tmp_path / "out"
    result = train("--data", data, "--lower", "--min-count", 2, "--split", split)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(out).vocabulary.characters == tuple(sorted("äб名😀ézñш前🎉öy"))
    words = invoke("sample", out, "-n", 30, "--prefix", "Б").stdout.splitlines()
    assert all(word.startswith("б") for word in words)
    assert invoke("score", out, "ÄÑ").stdout.startswith("äñ  ")
    assert invoke("eval", out).stdout.strip() == result.stdout.splitlines()[-1]
