"""Word lists of any length: read once in blocks, written as memory-mapped tokens, never held as a whole.

The tokens of a part are one flat file of ids, each word closed by the boundary; another file has where each word ends
(https://numpy.org/doc/stable/reference/generated/numpy.memmap.html). Both lie in a cache folder named after the
content of the word list and the options, so that they are made once. A word's part is the CRC-32 of its UTF-8 bytes
modulo 10 (0 to 7 training, 8 validation, 9 test): copies of a word go to one part, and no list of words is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from unstuck.lm.data import (
    CONTROL,
    PARTS,
    SHIPPED,
    Vocabulary,
    control_character,
    name_of,
    not_utf8,
    reading,
)
from unstuck.lm.errors import LmError, require_whole

BLOCK_BYTES = 2**22
LONGEST_LINE = 2**26  # bytes
FORMAT = 1  # of the cache folder: another number is another folder
_RECORD = "tokens.json"
_CODE_POINTS = 0x110000
OnBytes = Callable[[int], object]


@dataclass(frozen=True)
class TokenFile:
    """A word list on the disk: `tokens[part]` ids of any unsigned dtype, `ends[part]` int64, one past each boundary."""

    source: str
    sha256: str
    count: int
    vocabulary: Vocabulary
    tokens: dict[str, npt.NDArray[Any]]
    ends: dict[str, npt.NDArray[np.int64]]

    @property
    def name(self) -> str:
        """What to call this list in a message."""
        return name_of(self.source)


def sha256_of(source: str | Path, on_bytes: OnBytes = lambda _: None) -> str:
    """Of the bytes of a data file, read in blocks; raises LmError as `data.read_words` does."""
    return _WordFile(source, on_bytes).sha256()


def cache_folder() -> Path:
    """Where token files are kept: `unstuck` in the user's cache folder, which XDG_CACHE_HOME names."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unstuck"


def open_tokens(
    source: str | Path = SHIPPED,
    *,
    lower: bool = False,
    min_count: int = 1,
    cache: Path | None = None,
    on_bytes: OnBytes = lambda _: None,
) -> TokenFile:
    """The tokens of the words in `source`, made when the cache folder lacks them.

    `lower` and `min_count` are those of `data.prepare`. `on_bytes` is called with the number of bytes read since its
    last call; the file is read once to know its content and twice more to make the tokens. Raises LmError as
    `data.read_words` does, when a part is left without words, and when the cache folder cannot be written.
    """
    require_whole("min count", min_count, 1, 2**48)
    file = _WordFile(source, on_bytes)
    digest = file.sha256()
    key = hashlib.sha256(f"{FORMAT} {digest} {lower} {min_count}".encode()).hexdigest()[:24]
    folder = (cache or cache_folder()) / "tokens" / key
    try:
        held = _opened(file.name, digest, folder)
        if held is None:
            _build(file, digest, folder, lower=lower, min_count=min_count)
            held = _opened(file.name, digest, folder)
    except OSError as error:
        raise LmError(
            f"token files cannot be kept in {folder} ({error.strerror or error}): free some space, "
            "or name another folder in the environment variable XDG_CACHE_HOME"
        ) from None
    if held is None:
        raise LmError(f"token files in {folder} change while they are read: delete that folder")
    return held


@dataclass(frozen=True)
class _WordFile:
    """The word list as bytes, read from the start as often as needed."""

    source: str | Path
    on_bytes: OnBytes

    @property
    def name(self) -> str:
        """The absolute path, or SHIPPED."""
        return SHIPPED if self.source == SHIPPED else str(Path(self.source).absolute())

    def _open(self) -> IO[bytes]:
        if self.source == SHIPPED:
            return resources.files("unstuck.lm").joinpath("data/names.txt").open("rb")
        return Path(self.source).open("rb")

    def _blocks(self) -> Iterator[bytes]:
        with ExitStack() as stack:
            with reading(self.source):
                file = stack.enter_context(self._open())
            while True:
                with reading(self.source):
                    block = file.read(BLOCK_BYTES)
                if not block:
                    return
                self.on_bytes(len(block))
                yield block

    def sha256(self) -> str:
        """Of the file's bytes."""
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest()

    def words(self, *, lower: bool) -> Iterator[list[str]]:
        """The words, a block's at a time; raises LmError for bytes and characters that cannot stand in a word."""
        offset, line, rest = 0, 1, b""
        for block in self._blocks():
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield self._parse(whole, offset, line, lower=lower)
                offset += len(whole) + 1
                line += whole.count(b"\n") + 1
            elif len(rest) > LONGEST_LINE:
                raise LmError(
                    f"{self.name} line {line} is longer than {LONGEST_LINE:,} bytes: "
                    "give a text file with one word per line"
                )
        yield self._parse(rest, offset, line, lower=lower)

    def _parse(self, raw: bytes, offset: int, line: int, *, lower: bool) -> list[str]:
        if offset == 0:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            at = line + raw.count(b"\n", 0, error.start)
            raise not_utf8(self.name, at, offset + error.start, raw[error.start]) from None
        lines = [one.strip() for one in text.split("\n")]
        joined = "\n".join(lines)
        if found := CONTROL.search(joined):
            raise control_character(self.name, line + joined.count("\n", 0, found.start()), found[0])
        return [one for one in (joined.lower() if lower else joined).split("\n") if one]


def _build(file: _WordFile, digest: str, folder: Path, *, lower: bool, min_count: int) -> None:
    """Write the token files beside their place, then put the folder there in one step."""
    vocabulary = _vocabulary(file, lower=lower, min_count=min_count)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        record = _write_parts(file, vocabulary, temporary, lower=lower)
        record.update(sha256=digest, vocabulary=vocabulary.characters)
        (temporary / _RECORD).write_text(json.dumps(record), encoding="ascii")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _vocabulary(file: _WordFile, *, lower: bool, min_count: int) -> Vocabulary:
    """The characters that the list holds at least `min_count` times."""
    counts = np.zeros(_CODE_POINTS, dtype=np.int64)
    for words in file.words(lower=lower):
        found = np.bincount(_points("".join(words)))
        counts[: len(found)] += found
    if not counts.any():
        raise LmError(f"{name_of(file.name)} holds no words: give a text file with one word per line")
    kept = np.flatnonzero(counts >= min_count)
    if not len(kept):
        raise LmError(f"{name_of(file.name)}: no character stands {min_count} times: lower --min-count")
    return Vocabulary(tuple(map(chr, kept.tolist())))


def _points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _write_parts(file: _WordFile, vocabulary: Vocabulary, folder: Path, *, lower: bool) -> dict[str, Any]:
    """Append each word's tokens and end to its part's files; return what the record says of them."""
    dtype = _dtype_for(vocabulary)
    table = np.full(_CODE_POINTS, -1, dtype=np.int32)  # code point -> id
    table[[ord(c) for c in vocabulary.characters]] = np.arange(1, len(vocabulary))
    table[ord("\n")] = 0
    totals, counts = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
    with ExitStack() as stack:
        tokens, ends = (
            {part: stack.enter_context((folder / f"{part}.{kind}").open("wb")) for part in PARTS}
            for kind in ("tokens", "ends")
        )
        for words in file.words(lower=lower):
            if not words:
                continue
            ids = table[_points("".join(f"{word}\n" for word in words))]
            lengths = np.diff(np.flatnonzero(ids == 0), prepend=-1)
            owners = _owners(words, ids, lengths)
            of_token = np.repeat(owners, lengths)
            for index, part in enumerate(PARTS):
                chosen = ids[of_token == index].astype(dtype)
                chosen.tofile(tokens[part])
                (np.cumsum(lengths[owners == index]) + totals[part]).astype(np.int64).tofile(ends[part])
                totals[part] += len(chosen)
                counts[part] += int((owners == index).sum())
    for part in PARTS:
        if not counts[part]:
            raise LmError(
                f"{name_of(file.name)}: of {sum(counts.values())} words, the split by hash leaves none for {part}: "
                "give more words, or use --split words"
            )
    return {"dtype": np.dtype(dtype).name, "tokens": totals, "words": counts}


def _dtype_for(vocabulary: Vocabulary) -> type[np.unsignedinteger[Any]]:
    return next(d for d in (np.uint8, np.uint16, np.uint32) if len(vocabulary) <= np.iinfo(d).max + 1)


def _owners(words: list[str], ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """The index in PARTS of each word, or -1 where it holds a character that the vocabulary leaves out."""
    tenths = np.fromiter((zlib.crc32(word.encode()) % 10 for word in words), dtype=np.int8, count=len(words))
    owners = np.maximum(tenths - 7, 0).astype(np.int8)
    owners[np.minimum.reduceat(ids, np.cumsum(lengths) - lengths) < 0] = -1
    return owners


def _opened(source: str, digest: str, folder: Path) -> TokenFile | None:
    """The tokens in `folder`, or None where it lacks a file, or the record, the files' sizes and the list disagree."""
    try:
        record = json.loads((folder / _RECORD).read_bytes())
        vocabulary = Vocabulary(tuple(record["vocabulary"]))
        dtype = _dtype_for(vocabulary)
        tokens, ends = (
            {part: np.asarray(np.memmap(folder / f"{part}.{kind}", dtype=number, mode="r")) for part in PARTS}
            for kind, number in (("tokens", dtype), ("ends", np.int64))
        )
        sizes = {"tokens": {p: len(tokens[p]) for p in PARTS}, "words": {p: len(ends[p]) for p in PARTS}}
        if record != {"dtype": np.dtype(dtype).name, **sizes, "sha256": digest, "vocabulary": [*vocabulary.characters]}:
            return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return TokenFile(
        source=source,
        sha256=digest,
        count=sum(sizes["words"].values()),
        vocabulary=vocabulary,
        tokens=tokens,
        ends=ends,
    )
