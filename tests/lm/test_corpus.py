from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unstuck.lm.corpus import open_corpus
from unstuck.lm.data import PARTS, SHIPPED, read_words
from unstuck.lm.errors import LmError
from unstuck.lm.examples import Examples
from unstuck.lm.model import KINDS, ModelConfig
from unstuck.lm.recipe import RECIPES
from unstuck.lm.streams import Sequences, Windows

WORDS = RECIPES["words"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("split", ["words", "lines", "hash"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_gets_the_examples_that_it_reads(kind: str, split: str) -> None:
    corpus = open_corpus(SHIPPED, ModelConfig.of(kind, 27), replace(WORDS, split=split))
    on_disk = split == "hash"
    expected = Sequences if kind != "mlp" else Windows if on_disk else Examples
    assert {type(corpus.part(part)) for part in PARTS} == {expected}
    assert sum(len(corpus.part(part)) for part in PARTS) == sum(len(word) + 1 for word in read_words().words)
    assert corpus.words.count == 32_257
    assert corpus.leaked == (408 if split == "lines" else 0)
    with pytest.raises(LmError, match=r"^unknown part 'dev': choose one of train, val, test$"):
        corpus.part("dev")


@pytest.mark.parametrize("split", ["words", "hash"])
def test_all_kinds_predict_the_same_symbols_in_the_same_order(split: str) -> None:
    recipe = replace(WORDS, split=split)
    one, other = (open_corpus(SHIPPED, ModelConfig.of(kind, 27), recipe) for kind in ("mlp", "gru"))
    for part in PARTS:
        assert (one.part(part).tokens == other.part(part).tokens).all()
        rows = torch.arange(50)
        _, targets = other.part(part).batch(rows)
        wanted = targets[targets >= 0]
        assert torch.equal(one.part(part).batch(torch.arange(len(wanted)))[1], wanted)


@pytest.mark.parametrize("kind", ["mlp", "gru"])
def test_a_given_vocabulary_must_know_the_words(kind: str, write: Callable[..., Path]) -> None:
    path = write(*(f"{a}{b}" for a in "abc" for b in "xyz"))
    config = ModelConfig.of(kind, 27)
    vocabulary = open_corpus(path, config, WORDS).vocabulary
    longer = write(*(f"{a}{b}" for a in "abc" for b in "xyz"), "é", name="longer.txt")
    with pytest.raises(LmError, match=r"longer\.txt line 10: the word 'é' holds 'é' \(U\+00E9\), which the vocabulary"):
        open_corpus(longer, config, WORDS, vocabulary)


@pytest.mark.parametrize("split", ["words", "hash"])
def test_words_are_prepared_as_the_recipe_says(split: str, write: Callable[..., Path]) -> None:
    pairs = [f"{a}{b}" for a in "ABCDEFGH" for b in "stuvwxyz"]
    path = write(*pairs, "Ünder", "ab")
    plain = open_corpus(path, ModelConfig(2), replace(WORDS, split=split))
    assert set("ABst") < set(plain.vocabulary.characters)
    lower = open_corpus(path, ModelConfig(2), replace(WORDS, split=split, lower=True))
    assert "".join(lower.vocabulary.characters) == "abcdefghnrstuvwxyzü"
    common = open_corpus(path, ModelConfig(2), replace(WORDS, split=split, lower=True, min_count=3))
    assert "".join(common.vocabulary.characters) == "abcdefghstuvwxyz"
    assert (lower.words.count, common.words.count) == (66, 65)
