"""From words to examples: each symbol of a word is predicted from the `context` symbols before it.

Bengio et al. 2003, A Neural Probabilistic Language Model (https://www.jmlr.org/papers/v3/bengio03a.html), with
characters for words. The batches come in two kinds. `drawn` pairs each drawn context with the symbol that followed it
there. `counted` pairs it with the relative frequencies of *all* symbols that follow this context in the training set:
the expectation of the same gradient with less noise (Rao-Blackwell), because names share contexts: 182,625 examples
hold 5,438 different ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unstuck.lm.data import PARTS, Split, Vocabulary, WordList, split_words
from unstuck.lm.errors import LmError, require_choice, require_whole

TARGETS = ("drawn", "counted")
LONGEST_CONTEXT = 256


class Part(Protocol):
    """Examples of one part of the data, in rows to draw from."""

    def __len__(self) -> int:
        """Number of symbols that are predicted."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows: a row predicts one symbol (windows) or a word's (sequences)."""
        ...

    def batch(self, rows: Int64[Tensor, " B"]) -> tuple[Tensor, Tensor]:
        """What the model is given and the ids that follow, both int64, of some rows."""
        ...


@dataclass(frozen=True)
class Examples:
    """Contexts (N, T) and the ids that follow them (N,), both int64; ids before a word's start are the boundary."""

    contexts: Int64[Tensor, "N T"]
    targets: Int64[Tensor, " N"]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.targets)

    @property
    def rows(self) -> int:
        """Number of rows to draw from: the examples."""
        return len(self.targets)

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """The stream that the examples were made of: each predicts one token."""
        return self.targets.numpy()

    def batch(self, rows: Int64[Tensor, " B"]) -> tuple[Int64[Tensor, "B T"], Int64[Tensor, " B"]]:
        """The contexts (B, T) and targets (B,) of some examples."""
        return self.contexts[rows], self.targets[rows]


def build_examples(tokens: npt.NDArray[np.int64], context: int) -> Examples:
    """All examples of a token stream (N,) in which each word is closed by the boundary: one example a token."""
    require_whole("context", context, 1, LONGEST_CONTEXT)
    place = np.arange(len(tokens))
    opens = np.concatenate(([True], tokens[:-1] == 0)) if len(tokens) else np.zeros(0, dtype=bool)
    since_start = place - np.maximum.accumulate(np.where(opens, place, 0))
    contexts = np.zeros((len(tokens), context), dtype=np.int64)
    for lag in range(1, context + 1):
        contexts[lag:, context - lag] = np.where(since_start[lag:] >= lag, tokens[:-lag], 0)
    return Examples(torch.from_numpy(contexts), torch.from_numpy(tokens))


def examples_of(words: list[str], vocabulary: Vocabulary, context: int) -> Examples:
    """The examples of `words`: one for each character and one for each word's end."""
    return build_examples(vocabulary.encode(words), context)


@dataclass(frozen=True)
class Corpus:
    """A word list made ready: its vocabulary, its split and the examples of each part."""

    words: WordList
    vocabulary: Vocabulary
    split: Split
    train: Examples
    val: Examples
    test: Examples

    @property
    def leaked(self) -> int:
        """Validation words (lines) that also stand in training."""
        return self.split.leaked

    def part(self, name: str) -> Examples:
        """The examples of `train`, `val` or `test`."""
        require_choice("part", name, PARTS)
        chosen: Examples = getattr(self, name)
        return chosen


def build_corpus(words: WordList, context: int, by: str = "words", vocabulary: Vocabulary | None = None) -> Corpus:
    """Split `words` and build the examples; the vocabulary is that of all three parts unless one is given.

    Raises LmError as `split_words` does, and for words outside a given vocabulary.
    """
    if vocabulary is None:
        vocabulary = Vocabulary.of(words.words)
    else:
        vocabulary.require_known(words.words, words.name, words.lines)
    split = split_words(words.words, by, name=words.name)
    parts = [examples_of(part, vocabulary, context) for part in (split.train, split.val, split.test)]
    return Corpus(words, vocabulary, split, *parts)


class Batches:
    """Draws batches from a part's rows, with replacement; the given generator's state is the sampler's whole state."""

    def __init__(self, part: Part, size: int, targets: str, symbols: int, generator: torch.Generator) -> None:
        require_choice("targets", targets, TARGETS)
        self.part, self.size, self.generator = part, size, generator
        self.counts = None
        if targets == "counted":
            if not isinstance(part, Examples):
                raise LmError("targets counted needs windows of a list held in memory: use --targets drawn")
            self.counts = _FollowCounts(part, symbols)

    def draw(self) -> tuple[Tensor, Int64[Tensor, " B"] | Int64[Tensor, "B L"] | Float[Tensor, "B V"]]:
        """What the model is given, and targets: int64 where `drawn`, (B, V) float32 probabilities where `counted`."""
        drawn = torch.randint(self.part.rows, (self.size,), generator=self.generator)
        given, targets = self.part.batch(drawn)
        return given, targets if self.counts is None else self.counts.rows(drawn)


class _FollowCounts:
    """For each example, how often each symbol follows its context; sparse, so never larger than the data."""

    def __init__(self, examples: Examples, symbols: int) -> None:
        group = np.zeros(len(examples), dtype=np.int64)
        for column in examples.contexts.numpy().T:
            group = np.unique(group * symbols + column, return_inverse=True)[1]
        pairs, counts = np.unique(group * symbols + examples.targets.numpy(), return_counts=True)
        owner = pairs // symbols
        sizes = np.bincount(owner)
        self.symbols = symbols
        self.group = torch.from_numpy(group)
        self.first = torch.from_numpy(np.cumsum(sizes) - sizes)
        self.sizes = torch.from_numpy(sizes)
        self.follower = torch.from_numpy(pairs % symbols)
        self.share = torch.from_numpy((counts / np.bincount(group)[owner]).astype(np.float32))

    def rows(self, drawn: Tensor) -> Tensor:
        """Relative frequencies (B, V) float32 of the symbols after the contexts of the examples `drawn` (B,)."""
        group = self.group[drawn]  # (B,)
        sizes = self.sizes[group]  # (B,)
        row = torch.repeat_interleave(sizes)  # (K,) which row each of the K pairs belongs to
        shift = self.first[group] - (sizes.cumsum(0) - sizes)  # (B,)
        pair = torch.arange(len(row)) + shift[row]  # (K,)
        dense = torch.zeros(len(drawn), self.symbols)
        dense[row, self.follower[pair]] = self.share[pair]
        return dense
