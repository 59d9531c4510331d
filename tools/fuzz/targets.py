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

import torch
from torch import nn

import unstuck
from tools.fuzz.mutations import mutate_bytes, mutate_json, mutate_run, mutate_text
from unstuck.capture.programs import ScriptError, read_program
from unstuck.config import ConfigError, load
from unstuck.lm.checkpoint import load_checkpoint
from unstuck.lm.data import Vocabulary, read_words, split_words
from unstuck.lm.errors import LmError
from unstuck.lm.tokens import open_tokens
from unstuck.report.report import FORMATS
from unstuck.rules.catalogue import UnknownRuleError
from unstuck.runs import read_report
from unstuck.trace.folder import describe
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
        Target("tensors", "damaged", lambda: [checkpoint()[1]], mutate_bytes, _read_tensors, (LmError,)),
        Target("notebook", "a.ipynb", notebooks, mutate_json, _read_program, (ScriptError,)),
        Target("script", "a.py", scripts, mutate_bytes, _read_program, (ScriptError,)),
    )
}
