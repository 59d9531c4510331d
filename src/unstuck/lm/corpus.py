"""From a data file to the examples that a model and a recipe ask for, in memory or on the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unstuck.lm.config import ModelConfig
from unstuck.lm.data import PARTS, Vocabulary, WordList, prepare, read_words, split_words
from unstuck.lm.errors import require_choice
from unstuck.lm.examples import Corpus, Part, build_corpus
from unstuck.lm.recipe import Recipe
from unstuck.lm.streams import Sequences, Windows
from unstuck.lm.tokens import TokenFile, open_tokens


@dataclass(frozen=True)
class StreamCorpus:
    """A word list whose examples are made as they are drawn; `leaked` as in `Corpus`."""

    words: WordList | TokenFile
    vocabulary: Vocabulary
    train: Sequences | Windows
    val: Sequences | Windows
    test: Sequences | Windows
    leaked: int

    def part(self, name: str) -> Sequences | Windows:
        """The examples of `train`, `val` or `test`."""
        require_choice("part", name, PARTS)
        chosen: Sequences | Windows = getattr(self, name)
        return chosen


AnyCorpus = Corpus | StreamCorpus


def open_corpus(
    source: str | Path,
    config: ModelConfig,
    recipe: Recipe,
    vocabulary: Vocabulary | None = None,
    on_bytes: Callable[[int], object] = lambda _: None,
) -> AnyCorpus:
    """The corpus of a data file: its words prepared and split as the recipe says, in the model's kind of examples.

    Raises LmError as the readers and splits do, and for words outside a given vocabulary.
    """
    return corpus_of(open_words(source, recipe, on_bytes), config, recipe, vocabulary)


def open_words(
    source: str | Path, recipe: Recipe, on_bytes: Callable[[int], object] = lambda _: None
) -> WordList | TokenFile:
    """The words of a data file, prepared as the recipe says: on the disk where it splits by hash, else in memory."""
    if recipe.split == "hash":
        return open_tokens(source, lower=recipe.lower, min_count=recipe.min_count, on_bytes=on_bytes)
    return prepare(read_words(source), lower=recipe.lower, min_count=recipe.min_count)


def corpus_of(
    words: WordList | TokenFile, config: ModelConfig, recipe: Recipe, vocabulary: Vocabulary | None = None
) -> AnyCorpus:
    """The corpus of words already prepared; raises LmError as `open_corpus` does."""
    if isinstance(words, TokenFile):
        return _of_token_file(words, config)
    if not config.reads_words:
        return build_corpus(words, config.context, recipe.split, vocabulary)
    if vocabulary is None:
        vocabulary = Vocabulary.of(words.words)
    else:
        vocabulary.require_known(words.words, words.name, words.lines)
    split = split_words(words.words, recipe.split, name=words.name)
    train, val, test = (
        Sequences(vocabulary.encode(part), config.context) for part in (split.train, split.val, split.test)
    )
    return StreamCorpus(words, vocabulary, train, val, test, split.leaked)


def part_of(words: list[str], vocabulary: Vocabulary, config: ModelConfig) -> Part:
    """The examples of some words, all in one part, for a model of this config."""
    tokens = vocabulary.encode(words)
    return Sequences(tokens, config.context) if config.reads_words else Windows(tokens, config.context)


def _of_token_file(file: TokenFile, config: ModelConfig) -> StreamCorpus:
    def examples(part: str) -> Sequences | Windows:
        if config.reads_words:
            return Sequences(file.tokens[part], config.context, file.ends[part])
        return Windows(file.tokens[part], config.context)

    return StreamCorpus(file, file.vocabulary, examples("train"), examples("val"), examples("test"), 0)
