"""Words from a file, their vocabulary, and the split into training, validation and test.

A line is a word; surrounding white space is dropped, blank lines are skipped. Characters are Unicode code points,
taken as they stand (no case folding, no normalisation). The boundary that opens and closes every word is the *id* 0,
printed as "." by habit: it is not a character, so a word that itself holds a "." keeps it as a symbol with an id of
its own.

Two ways to split 80/10/10 after the same seeded shuffle:

- `words` shuffles the distinct words, and a word that stands several times goes with all its copies to one part.
  Nothing leaks from training to validation, and the copies keep their weight.
- `lines` shuffles the lines, as the lecture does (https://github.com/karpathy/makemore). In a list with repeated
  words some validation words also stand in training; `Split.leaked` counts them. It gives the lecture's own 182,625 /
  22,655 / 22,866 examples on its list.

On a list without repeated words both give the same parts. The third way, `hash`, is for lists that do not fit in memory
(`unstuck.lm.tokens`): a word's own hash says which part it goes to.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unstuck.lm.errors import LmError, require_choice

BOUNDARY = 0
SHIPPED = "shipped:names.txt"
SPLITS = ("words", "lines", "hash")
PARTS = ("train", "val", "test")
FEWEST_WORDS = 6  # with fewer, int(0.8 n) == int(0.9 n) leaves no validation word
SPLIT_SEED = 42

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\t]")
_Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WordList:
    """The words of one file, in order.

    `source` is the absolute path, or `SHIPPED`; `sha256` is of the file's bytes; `lines[i]` is where `words[i]` stands,
    counted from 1.
    """

    words: list[str]
    lines: list[int]
    source: str
    sha256: str

    @property
    def name(self) -> str:
        """What to call this list in a message."""
        return name_of(self.source)

    @property
    def count(self) -> int:
        """Number of words, copies included."""
        return len(self.words)


def name_of(source: str) -> str:
    """What to call a data file in a message."""
    return "the shipped names" if source == SHIPPED else source


def prepare(words: WordList, *, lower: bool = False, min_count: int = 1) -> WordList:
    """The list with its words in lower case, and without those that hold a rare character, as asked.

    A character is rare when the whole list (after lower-casing) holds it fewer than `min_count` times. Raises LmError
    when no word is left.
    """
    kept = list(zip(words.words, words.lines, strict=True))
    if lower:
        kept = [(word.lower(), line) for word, line in kept]
    if min_count > 1:
        counts = Counter(character for word, _ in kept for character in word)
        kept = [pair for pair in kept if all(counts[character] >= min_count for character in pair[0])]
    if not kept:
        raise LmError(f"{words.name}: every word holds a character that is rarer than {min_count}: lower --min-count")
    return replace(words, words=[word for word, _ in kept], lines=[line for _, line in kept])


def read_words(source: str | Path = SHIPPED) -> WordList:
    """Read a one-word-per-line UTF-8 file, or the shipped list of names.

    Raises LmError when the file is missing, a folder, unreadable, empty, not UTF-8, or holds control characters.
    """
    name = SHIPPED if source == SHIPPED else str(Path(source).absolute())
    raw = _read_bytes(source)
    words, lines = [], []
    for number, line in enumerate(_decode(raw, name).split("\n"), start=1):
        word = line.strip()
        if found := CONTROL.search(word):
            raise control_character(name, number, found[0])
        if word:
            words.append(word)
            lines.append(number)
    if not words:
        raise LmError(f"{name} holds no words: give a text file with one word per line")
    return WordList(words, lines, name, hashlib.sha256(raw).hexdigest())


def control_character(name: str, line: int, character: str) -> LmError:
    """The error of a line that holds what no word can hold."""
    return LmError(
        f"{name} line {line} holds the control character U+{ord(character):04X}: "
        "give a plain text file with one word per line"
    )


def _read_bytes(source: str | Path) -> bytes:
    if source == SHIPPED:
        return resources.files("unstuck.lm").joinpath("data/names.txt").read_bytes()
    with reading(source):
        return Path(source).read_bytes()


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """What the system says while a data file is read, as an LmError."""
    try:
        yield
    except FileNotFoundError:
        raise LmError(f"data file {source} does not exist: give a text file with one word per line") from None
    except IsADirectoryError:
        raise LmError(f"data file {source} is a folder: give a text file with one word per line") from None
    except LmError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LmError(f"data file {source} cannot be read ({reason}): check the path and its rights") from None


def _decode(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise not_utf8(name, line, error.start, raw[error.start]) from None


def not_utf8(name: str, line: int, offset: int, byte: int) -> LmError:
    """The error of a file that is no UTF-8 text."""
    return LmError(
        f"{name} line {line} (byte offset {offset}) is not UTF-8 text: "
        f"0x{byte:02x} cannot stand there; save the file as UTF-8 text with one word per line"
    )


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a word list, sorted by code point; the character at place i has id i + 1, the boundary id 0."""

    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise LmError unless the characters are sorted, single, distinct and printable on a line."""
        held = self.characters
        if not held or any(len(c) != 1 or CONTROL.match(c) or c == "\n" for c in held):
            raise LmError("a vocabulary must hold single printable characters: train again from a word list")
        if list(held) != sorted(set(held)):
            raise LmError("a vocabulary must be sorted and without repetition: train again from a word list")

    @classmethod
    def of(cls, words: Iterable[str]) -> Vocabulary:
        """The vocabulary of `words`."""
        return cls(tuple(sorted(set().union(*words))))

    def __len__(self) -> int:
        """Number of symbols, the boundary included: 27 for a-z."""
        return len(self.characters) + 1

    def encode(self, words: Sequence[str]) -> _Ids:
        """The words' ids end to end, each word closed by the boundary: (N,) int64.

        Raises LmError naming the first word with an unknown character.
        """
        text = "".join(f"{word}\n" for word in words)
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        known = np.array([ord("\n"), *map(ord, self.characters)], dtype=np.uint32)
        ids = np.searchsorted(known, points).clip(max=len(known) - 1)
        if not np.array_equal(known[ids], points):
            self.require_known(words, "the word list")
        return ids.astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The word spelled by `ids`, up to the first boundary."""
        letters = []
        for one in ids:
            if one == BOUNDARY:
                break
            letters.append(self.characters[one - 1])
        return "".join(letters)

    def decode_rows(self, rows: _Ids) -> list[str]:
        """The words spelled by rows of ids (B, L), each up to its first boundary or the row's end."""
        closed = np.pad(rows, ((0, 0), (0, 1)))  # (B, L + 1)
        length = closed.argmin(axis=1)[:, None]  # of 0, the smallest id: (B, 1)
        points = np.array([ord("\n"), *map(ord, self.characters)], dtype="<u4")
        text = points[closed[np.arange(closed.shape[1]) <= length]].tobytes().decode("utf-32-le")
        words: list[str] = text.split("\n")[:-1]
        return words

    def require_known(self, words: Sequence[str], name: str, lines: Sequence[int] | None = None) -> None:
        """Raise LmError naming the first word that holds a character outside the vocabulary."""
        known = set(self.characters)
        for index, word in enumerate(words):
            for character in word:
                if character not in known:
                    where = f" line {lines[index]}" if lines else ""
                    raise LmError(
                        f"{name}{where}: the word {word!r} holds {character!r} (U+{ord(character):04X}), which the "
                        f"vocabulary of {len(known)} characters lacks: remove the word, or train on data that has it"
                    )

    def require_typed(self, text: str, name: str) -> None:
        """Raise LmError naming the characters of `text`, typed at `name`, that are outside the vocabulary."""
        unknown = [f"{c!r} (U+{ord(c):04X})" for c in dict.fromkeys(text) if c not in self.characters]
        if unknown:
            lower = text.lower()
            known = all(character in self.characters for character in lower)
            advice = f"write {lower!r}" if known else "leave it out, or use a model trained on words that have it"
            raise LmError(f"{name} {text!r}: the model does not know {' and '.join(unknown)}: {advice}")


@dataclass(frozen=True)
class Split:
    """Three lists of words, together every line of the list once."""

    train: list[str]
    val: list[str]
    test: list[str]

    @property
    def leaked(self) -> int:
        """Validation words (lines) that also stand in training."""
        seen = set(self.train)
        return sum(word in seen for word in self.val)


def split_words(words: Sequence[str], by: str = "words", seed: int = SPLIT_SEED, name: str = "the word list") -> Split:
    """80/10/10 after `random.Random(seed).shuffle`, by distinct word or by line (see the module's text).

    Raises LmError when the list is one word only, or too short to leave a validation word.
    """
    require_choice("split", by, SPLITS[:2])
    copies = Counter(words)
    units = list(copies) if by == "words" else list(words)
    if len(copies) == 1:
        raise LmError(f"{name} holds one word only: give at least {FEWEST_WORDS} different words")
    first, second = int(0.8 * len(units)), int(0.9 * len(units))
    if not 0 < first < second:
        what = "different words" if by == "words" else "lines"
        raise LmError(
            f"{name} holds {len(units)} {what}, and the 80/10/10 split leaves no validation word: "
            f"give at least {FEWEST_WORDS} different words"
        )
    random.Random(seed).shuffle(units)
    parts = units[:first], units[first:second], units[second:]
    if by == "words":
        parts = tuple([word for word in part for _ in range(copies[word])] for part in parts)  # type: ignore[assignment]
    return Split(*parts)
