"""Small word lists and runs that several tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from unstuck.lm import stages
from unstuck.lm.data import WordList, read_words
from unstuck.lm.examples import Corpus, build_corpus
from unstuck.lm.model import ModelConfig
from unstuck.lm.recipe import RECIPES
from unstuck.lm.train import Run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small wait for each other's threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def words() -> WordList:
    shipped = read_words()
    return replace(shipped, words=shipped.words[:400], lines=shipped.lines[:400])


@pytest.fixture
def lectures(monkeypatch: pytest.MonkeyPatch) -> WordList:
    """Sixty lines, ten of which stand twice, that pass for the lecture's list."""
    held = read_words().words[:50]
    words = held + held[:10]
    monkeypatch.setattr(stages, "LECTURE_WORDS", sha256("\n".join(words).encode()).hexdigest())
    return WordList(words, list(range(1, 61)), "names.txt", stages.LECTURE_WORDS)


@pytest.fixture(scope="session")
def corpus(words: WordList) -> Corpus:
    return build_corpus(words, context=3)


@pytest.fixture
def new_run(corpus: Corpus) -> Callable[..., Run]:
    """A run on the small corpus; keyword arguments go to the model's config or to the recipe."""

    def make(recipe: str = "fast", **options: Any) -> Run:
        model = {key: value for key, value in options.items() if key in ModelConfig.__dataclass_fields__}
        rest = {"steps": 100, "batch_size": 32, **{key: options[key] for key in options.keys() - model.keys()}}
        config = ModelConfig(len(corpus.vocabulary), **{"hidden": 20, **model})
        return Run(config, replace(RECIPES[recipe], **rest), corpus)

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of words, given as bytes or as lines."""

    def make(*content: bytes | str, name: str = "words.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(c if isinstance(c, bytes) else f"{c}\n".encode() for c in content))
        return path

    return make
