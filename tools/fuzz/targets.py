"""What is fuzzed: each reader with valid files of its kind, ways to damage them, and the errors that it documents."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import nn

import unstuck
from tools.fuzz.mutations import mutate_blob, mutate_bytes, mutate_json, mutate_run, mutate_tensors, mutate_text
from unstuck.capture.programs import ScriptError, read_program
from unstuck.config import ConfigError, load
from unstuck.lm.checkpoint import load_checkpoint
from unstuck.lm.data import Vocabulary, WordList, read_words, split_words
from unstuck.lm.errors import LmError
from unstuck.lm.ladder import Ladder, Plan
from unstuck.lm.ladder_store import load_runs, open_folder, save_runs
from unstuck.lm.stages import BLOCK, stages_of
from unstuck.lm.tokens import open_tokens
from unstuck.ranks.part import Losses, Part, Prints
from unstuck.ranks.rows import Rows
from unstuck.report.report import FORMATS
from unstuck.rules.catalogue import UnknownRuleError
from unstuck.runs import read_report
from unstuck.stats.reference import summarise
from unstuck.stats.table import SummaryTable
from unstuck.trace import Role
from unstuck.trace.folder import describe
from unstuck.trace.packing import PackingError
from unstuck.trace.store import StoreError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Target:
    """A reader: `read` gets a folder with a damaged file in it, called `file`; it may raise `documented` alone."""

    name: str
    file: str
    valid: Callable[[], Sequence[bytes]]
    mutate: Callable[[Random, bytes, Sequence[bytes]], bytes]
    read: Callable[[Path], object]
    documented: tuple[type[Exception], ...]

    def damaged(self, seed: int) -> bytes:
        """Return the file of a case."""
        random, valid = Random(seed), self.valid()
        return self.mutate(random, random.choice(valid), valid)

    def attempt(self, seed: int, folder: Path) -> bool:
        """Read the file of a case; returns whether it was accepted, and raises what no reader documents."""
        (folder / self.file).write_bytes(self.damaged(seed))
        try:
            self.read(folder / self.file)
        except self.documented as error:
            if len(str(error).splitlines()) != 1:
                raise AssertionError(f"{type(error).__name__} is not one line: {error!r}") from error
            return False
        return True


# -- stored runs ------------------------------------------------------------------------------------------------------


@cache
def runs() -> Sequence[bytes]:
    """Two stored runs: a faulty perceptron, and the same one mended while it trained."""
    import tempfile

    made = []
    with tempfile.TemporaryDirectory() as folder:
        for number, unsafe in enumerate((False, True)):
            path = Path(folder) / f"{number}.sqlite"
            with unstuck.watch(record=path, unsafe_fixes=unsafe) as run:
                _train()
            run.report()
            made.append(path.read_bytes())
    return made


def _train() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        net[0].weight *= 40
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(14):
        loss = nn.functional.cross_entropy(net(torch.randn(16, 8)), torch.randint(4, (16,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _read_run(path: Path) -> None:
    describe(path)
    report, _ = read_report(path)
    report.render("text")


def _render_run(path: Path) -> None:
    report, _ = read_report(path)
    for name in FORMATS:
        if name != "html":
            report.render(name)
    report.render("text", verbose=True, color=True)


def _draw_run(path: Path) -> None:
    report, _ = read_report(path)
    report.render("html")


# -- settings ---------------------------------------------------------------------------------------------------------

SETTINGS = b"""\
[project]
name = "mine"

[tool.unstuck]
every = 10
select = ["A", "L001"]
ignore = "G,U"
extend-select = ["I001"]
fail-on = "warning"
record = false
keep-runs = 5
keep_megabytes = 100

[tool.unstuck.thresholds]
U001 = { max_ratio = 0.05 }

[tool.unstuck.per-site-ignores]
"blocks.*.fc*" = ["A001"]
"""
TOML = (
    *(b"[tool.unstuck]\n", b"overhead = '2%'\n", b"overhead = nan\n", b"every = 1e400\n", b"every = inf\n"),
    *(b"[", b"]", b"=", b"'''", b'"""', b"#", b"\n", b"1979-05-27T07:32:00Z", b"{", b"}", b"[[tool]]\n", b"tool = 1\n"),
    *(
        b"0x" + b"f" * 300,
        b"9" * 5_000,
        b'"\\ud800"',
        b"[" * 3_000,
        b"a." * 2_000,
        b"\xff",
        b"\0",
        b"true",
        b"-0",
        b"_",
    ),
)


def _read_settings(path: Path) -> None:
    load(path.parent, {})


def _read_environment(path: Path) -> None:
    """Read settings from the environment, one a line."""
    pairs = (line.partition("=") for line in path.read_bytes().decode("utf-8", "surrogateescape").split("\n"))
    load(path.parent, {f"UNSTUCK_{name}": value for name, _, value in pairs if name})


ENVIRONMENT = b"EVERY=3\nSELECT=A,B\nIGNORE=L\nFAIL_ON=error\nRECORD=0\nKEEP_RUNS=9\nKEEP_MEGABYTES=7\n"
VARIABLES = (
    b"OVERHEAD=2%\n",
    b"OVERHEAD=nan%",
    b"OVERHEAD=1e999",
    b"EVERY=" + b"9" * 5_000,
    b"THRESHOLDS=1\n",
    b"=",
    b"%",
)


# -- word lists and checkpoints ---------------------------------------------------------------------------------------


def names() -> Sequence[bytes]:
    """Part of the shipped names, words of other scripts, and a file with a byte order mark."""
    shipped = (ROOT / "src/unstuck/lm/data/names.txt").read_bytes()[:3_000]
    marked = "\r\n".join(f"{a}{b}" for a in "abcdefgh" for b in "ijklmnop")
    others = "\n".join(f"{word}{a}{b}" for word in ("złoto", "имя", "名前", "😀") for a in "aé😀" for b in "œ.xyz")
    return [shipped, others.encode(), b"\xef\xbb\xbf" + marked.encode()]


def _read_words(path: Path) -> None:
    words = read_words(path)
    vocabulary = Vocabulary.of(words.words)
    vocabulary.encode(words.words)
    split_words(words.words)


def _read_tokens(path: Path) -> None:
    try:
        open_tokens(path, cache=path.parent / "cache")
    finally:
        shutil.rmtree(path.parent / "cache", ignore_errors=True)


WORDS = (
    b"\n",
    b"\r\n",
    b"\0",
    b"\x85",
    "\u2028".encode(),
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b" ",
    b"\t",
    b"\xc2\xa0",
    b".",
)


@cache
def checkpoint() -> tuple[bytes, bytes, str]:
    """A checkpoint of few steps: its record, its tensors and their file's name."""
    import tempfile

    from unstuck.cli import app

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        app(["lm", "train", "--steps", "2", "--no-preflight", "--out", folder], standalone_mode=False)
        record = (Path(folder) / "checkpoint.json").read_bytes()
        (tensors,) = Path(folder).glob("tensors-*.safetensors")
        return record, tensors.read_bytes(), tensors.name


def _read_checkpoint(path: Path) -> None:
    _, tensors, name = checkpoint()
    (path.parent / name).write_bytes(tensors)
    load_checkpoint(path.parent).model()


def _read_tensors(path: Path) -> None:
    """Read a checkpoint whose record agrees with its damaged tensors."""
    import hashlib

    record, _, name = checkpoint()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    made = {**json.loads(record), "tensors": {"file": name, "sha256": digest}}
    os.replace(path, path.parent / name)
    (path.parent / "checkpoint.json").write_text(json.dumps(made), encoding="utf-8")
    load_checkpoint(path.parent).model()


# -- ladders and kept token files --------------------------------------------------------------------------------------


@cache
def ladder() -> tuple[Ladder, WordList, bytes, Path, bytes]:
    """A ladder of one run, its words and record, and the name and content of the run's file."""
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "names.txt").write_bytes(names()[0])
        words = read_words(folder / "names.txt")
        built = Ladder(Plan(stages_of("kaiming"), 1, 2 * BLOCK), words)
        built.runs[0].step, built.runs[0].losses = BLOCK, [3.0]
        open_folder(folder / "out", words, built.plan.steps)
        save_runs(folder / "out", built.runs)
        (file,) = (folder / "out").glob("*.safetensors")
        return built, words, (folder / "out/ladder.json").read_bytes(), Path(file.name), file.read_bytes()


def _read_ladder(path: Path) -> None:
    built, words, *_ = ladder()
    open_folder(path.parent, words, built.plan.steps)


def _read_stage(path: Path) -> None:
    built, _, _, name, _ = ladder()
    os.replace(path, path.parent / name)
    load_runs(path.parent, built.runs, built.plan.steps)


@cache
def token_record() -> tuple[bytes, dict[str, bytes]]:
    """The record of token files that are kept, and those files, by their place in the cache folder."""
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "names.txt").write_bytes(names()[0])
        open_tokens(folder / "names.txt", cache=folder / "cache")
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        (record,) = (files.pop(name) for name in list(files) if name.endswith(".json"))
        return record, files


def _read_token_record(path: Path) -> None:
    """Read token files whose record is damaged: they must be those of the word list, made again if need be."""
    _, files = token_record()
    for name, content in files.items():
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(content)
    (kept,) = (path.parent / "cache/tokens").iterdir()
    os.replace(path, kept / "tokens.json")
    opened = open_tokens(path.parent / "names.txt", cache=path.parent / "cache")
    for part, tokens in opened.tokens.items():
        (same,) = (content for name, content in files.items() if name.endswith(f"{part}.tokens"))
        if tokens.tobytes() != same:
            raise AssertionError(f"other tokens in {part}")


# -- what ranks bring to a merge --------------------------------------------------------------------------------------


@cache
def parts() -> Sequence[bytes]:
    """What two ranks bring: rows with and without units, losses, fingerprints."""
    made = []
    for rank in range(2):
        torch.manual_seed(rank)
        table = SummaryTable.of([summarise(torch.randn(30, 5), unit_dim=1), summarise(torch.randn(9))])
        rows = Rows.of_rank(rank, [5, 6], [Role.INPUT, Role.GRADIENT], [3, 3], [False, True], table)
        losses = [Losses.of_rank([(3, name, 0, 2.0, 3.0)]) for name in (0, 5)]
        records = np.array([[rank, 2.0, -1.0, 8.0, 9.0, 0.0, 100.0]])
        made.append(Part(3, rows, losses[0], losses[1], Prints.of_rank(rank, {7: 9}), records).to_bytes())
    return made


def _read_part(path: Path) -> None:
    """Merge a damaged part with one that is whole, and read what comes of it."""
    part = Part.from_bytes(path.read_bytes())
    merged = Part.from_bytes(Part.merged([Part.from_bytes(parts()[0]), part]).to_bytes())
    for losses in (merged.objectives, merged.calls):
        losses.means()
    for row in range(len(merged.rows)):
        merged.rows.table.summary(row)


# -- programs ---------------------------------------------------------------------------------------------------------

CELLS = (
    "%matplotlib inline\nimport torch\n",
    "!pip install x \\\n  --quiet\nx = 1\n",
    "%%time\nloss = 1\n",
    "?x\n",
    "y = (1 %\n 3)\n",
)


def notebooks() -> Sequence[bytes]:
    """Notebooks with commands of IPython, with text as string and as lines."""
    cells = [{"cell_type": "code", "source": text, "metadata": {}, "outputs": []} for text in CELLS]
    lines = [{**cell, "source": str(cell["source"]).splitlines(keepends=True)} for cell in cells]
    more = [{"cell_type": "markdown", "source": ["# text"], "metadata": {}}]
    return [
        json.dumps({"cells": part, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
        for part in (cells, [*more, *lines])
    ]


def scripts() -> Sequence[bytes]:
    """The cells as scripts."""
    return [text.encode() for text in CELLS]


def _read_program(path: Path) -> None:
    for source in read_program(path).sources:
        with contextlib.suppress(SyntaxError, ValueError, MemoryError, RecursionError):  # shown as the interpreter does
            source.compile()


TARGETS = {
    target.name: target
    for target in (
        Target("run", "run.sqlite", runs, mutate_run, _read_run, (StoreError, UnknownRuleError)),
        Target("report", "run.sqlite", runs, mutate_run, _render_run, (StoreError, UnknownRuleError)),
        Target("page", "run.sqlite", runs, mutate_run, _draw_run, (StoreError, UnknownRuleError)),
        Target("settings", "pyproject.toml", lambda: [SETTINGS], mutate_text(TOML), _read_settings, (ConfigError,)),
        Target("environment", "env", lambda: [ENVIRONMENT], mutate_text(VARIABLES), _read_environment, (ConfigError,)),
        Target("words", "names.txt", names, mutate_text(WORDS), _read_words, (LmError,)),
        Target("tokens", "names.txt", names, mutate_text(WORDS), _read_tokens, (LmError,)),
        Target("checkpoint", "checkpoint.json", lambda: [checkpoint()[0]], mutate_json, _read_checkpoint, (LmError,)),
        Target("tensors", "damaged", lambda: [checkpoint()[1]], mutate_tensors, _read_tensors, (LmError,)),
        Target("ladder", "ladder.json", lambda: [ladder()[2]], mutate_json, _read_ladder, (LmError,)),
        Target("stage", "damaged", lambda: [ladder()[4]], mutate_tensors, _read_stage, (LmError,)),
        Target("kept", "damaged", lambda: [token_record()[0]], mutate_json, _read_token_record, ()),
        Target("part", "part", parts, lambda random, data, _: mutate_blob(random, data), _read_part, (PackingError,)),
        Target("notebook", "a.ipynb", notebooks, mutate_json, _read_program, (ScriptError,)),
        Target("script", "a.py", scripts, mutate_bytes, _read_program, (ScriptError,)),
    )
}
