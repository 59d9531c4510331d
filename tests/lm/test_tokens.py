from __future__ import annotations

import gc
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.lm import tokens as module
from unstuck.lm.data import PARTS, SHIPPED, prepare, read_words
from unstuck.lm.errors import LmError
from unstuck.lm.tokens import TokenFile, cache_folder, open_tokens, sha256_of

WORD = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)
ENOUGH = [f"{a}{b}" for a in "abcdefgh" for b in "stuvwxyz"]  # some words in every part


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unstuck"


def spelled(file: TokenFile, part: str) -> list[str]:
    """The words of a part, cut at the ends that the file gives."""
    tokens, start, words = file.tokens[part].tolist(), 0, []
    for end in file.ends[part].tolist():
        assert tokens[end - 1] == 0
        words.append(file.vocabulary.decode(tokens[start:end]))
        start = end
    assert start == len(tokens)
    return words


def naive_parts(words: list[str]) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    owners = [*["train"] * 8, "val", "test"]
    for word in words:
        parts[owners[zlib.crc32(word.encode()) % 10]].append(word)
    return parts


@given(st.lists(WORD, max_size=30), st.integers(20, 900), st.booleans(), st.integers(1, 3))
def test_the_parts_are_those_of_the_plain_reader(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], block: int, lower: bool, min_count: int
) -> None:
    folder = tmp_path_factory.mktemp("data")
    path = folder / "words.txt"
    path.write_bytes("\ufeff".encode() + "\r\n\n ".join([*ENOUGH, *words]).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        file = open_tokens(path, lower=lower, min_count=min_count, cache=folder)
    whole = prepare(read_words(path), lower=lower, min_count=min_count)
    assert {part: spelled(file, part) for part in PARTS} == naive_parts(whole.words)
    assert (file.source, file.sha256, file.count) == (whole.source, whole.sha256, whole.count)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "words.txt holds no words: give a text file with one word per line"),
        (b" \n\r\n", "words.txt holds no words: give a text file with one word per line"),
        (
            b"emma\nava\nzo\xe9\n",
            "words.txt line 3 (byte offset 11) is not UTF-8 text: 0xe9 cannot stand there; "
            "save the file as UTF-8 text with one word per line",
        ),
        (
            b"emma\n\n\nav\x00a\n",
            "words.txt line 4 holds the control character U+0000: give a plain text file with one word per line",
        ),
        (
            b"emma\nava\n",
            "words.txt: of 2 words, the split by hash leaves none for test: give more words, or use --split words",
        ),
    ],
    ids=["empty", "blank", "latin-1", "binary", "few"],
)
@pytest.mark.parametrize("block", [3, 2**22])
def test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, cache: Path, content: bytes, message: str, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    path = write(content)
    with pytest.raises(LmError) as caught:
        open_tokens(path)
    assert str(caught.value) == str(path.parent / message)
    assert not list(cache.glob("tokens/*"))


def test_a_missing_file_a_folder_and_an_endless_line_are_refused(
    tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LmError, match=r"^data file nowhere\.txt does not exist: give a text file with one word per"):
        open_tokens("nowhere.txt")
    with pytest.raises(LmError, match=r"is a folder: give a text file"):
        sha256_of(tmp_path)
    monkeypatch.setattr(module, "BLOCK_BYTES", 8)
    monkeypatch.setattr(module, "LONGEST_LINE", 20)
    with pytest.raises(LmError, match=r"words\.txt line 2 is longer than 20 bytes: give a text file with one word"):
        open_tokens(write("ava", "a" * 60))
    with pytest.raises(LmError, match=r"^min count is 0: give a whole number from 1 to"):
        open_tokens(write(*ENOUGH), min_count=0)
    with pytest.raises(LmError, match=r"words\.txt: no character stands 1000 times: lower --min-count$"):
        open_tokens(write(*ENOUGH), min_count=1000)


def test_a_cache_that_cannot_be_written_is_said(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LmError) as caught:
        open_tokens(write(*ENOUGH), cache=tmp_path / "file")
    assert str(caught.value).startswith(f"token files cannot be kept in {tmp_path / 'file' / 'tokens'}/")
    assert str(caught.value).endswith(
        "(Not a directory): free some space, or name another folder in the environment variable XDG_CACHE_HOME"
    )


def test_the_files_are_made_once_for_a_content_and_its_options(
    write: Callable[..., Path], cache: Path, tmp_path: Path
) -> None:
    path, read = write(*ENOUGH), []
    assert cache_folder() == cache
    first = open_tokens(path, on_bytes=read.append)
    assert sum(read) == 3 * path.stat().st_size
    (folder,) = cache.glob("tokens/*")
    made = {one.name: one.stat().st_mtime_ns for one in folder.iterdir()}
    assert len(made) == 7
    moved = tmp_path / "moved.txt"
    path.rename(moved)
    read.clear()
    again = open_tokens(moved, on_bytes=read.append)
    assert sum(read) == moved.stat().st_size
    assert {one.name: one.stat().st_mtime_ns for one in folder.iterdir()} == made
    assert again.source == str(moved)
    assert (again.sha256, again.vocabulary) == (first.sha256, first.vocabulary)
    open_tokens(moved, lower=True)
    open_tokens(moved, min_count=2)
    assert len(list(cache.glob("tokens/*"))) == 3


@pytest.mark.parametrize("harm", ["cut", "missing", "record", "no-record"])
def test_files_that_are_damaged_are_made_again(write: Callable[..., Path], cache: Path, harm: str) -> None:
    path = write(*ENOUGH)
    before = {part: spelled(open_tokens(path), part) for part in PARTS}
    (folder,) = cache.glob("tokens/*")
    victim = folder / ("tokens.json" if "record" in harm else "train.tokens")
    if harm in ("missing", "no-record"):
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    assert {part: spelled(open_tokens(path), part) for part in PARTS} == before
    assert json.loads((folder / "tokens.json").read_text())["dtype"] == "uint8"


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": ["b", "a"]},
        {"vocabulary": 5},
        {"sha256": "0" * 64},
        {"dtype": "O"},
        {"dtype": "(" * 600},
        {"words": {"train": 1e300}},
        {"more": -(2**63)},
        "[" * 200_000,
        "[]",
    ],
)
def test_a_record_that_says_something_else_is_not_believed(
    write: Callable[..., Path], cache: Path, change: dict[str, object] | str
) -> None:
    path = write(*ENOUGH)
    before = open_tokens(path)
    (record,) = cache.glob("tokens/*/tokens.json")
    held = json.loads(record.read_text())
    record.write_text(json.dumps({**held, **change}) if isinstance(change, dict) else change)
    again = open_tokens(path)
    assert (again.vocabulary, again.count, again.sha256) == (before.vocabulary, before.count, before.sha256)
    assert json.loads(record.read_text()) == held


def test_an_interrupt_leaves_nothing_half_made(write: Callable[..., Path], cache: Path) -> None:
    path, calls = write(*ENOUGH), []

    def interrupt(_: int) -> None:
        calls.append(1)
        if len(calls) == 3:  # the third reading is the one that writes
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_tokens(path, on_bytes=interrupt)
    assert not list(cache.glob("tokens/*"))
    assert open_tokens(path).count == len(ENOUGH)


@pytest.mark.parametrize(("symbols", "dtype"), [(254, "uint8"), (256, "uint16"), (70_000, "uint32")])
def test_ids_take_as_few_bytes_as_the_vocabulary_allows(write: Callable[..., Path], symbols: int, dtype: str) -> None:
    characters = [chr(c) for c in range(0x100, 0x1FFFF) if chr(c).isprintable() and not chr(c).isspace()][:symbols]
    file = open_tokens(write(*(one * 2 for one in characters)))
    assert len(file.vocabulary) == symbols + 1
    assert {tokens.dtype for tokens in file.tokens.values()} == {np.dtype(dtype)}
    assert sorted(word for part in PARTS for word in spelled(file, part)) == [one * 2 for one in characters]


def test_the_split_by_hash_is_about_80_10_10_and_keeps_copies_together() -> None:
    words = read_words().words
    file = open_tokens(SHIPPED)
    parts = {part: spelled(file, part) for part in PARTS}
    assert not set(parts["train"]) & set(parts["val"])
    assert not set(parts["train"]) & set(parts["test"])
    assert sum(map(len, parts.values())) == len(words)
    assert [len(parts[part]) / len(words) for part in PARTS] == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_the_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at once is a block's worth; `python -m benchmarks.lm_large` measures ten million lines."""
    monkeypatch.setattr(module, "BLOCK_BYTES", 2**18)
    names, peaks = read_words().words, []
    picks = random.Random(0)
    for lines in (40_000, 160_000):
        path = tmp_path / f"{lines}.txt"
        path.write_text("".join(f"{picks.choice(names)}{picks.choice(names)}\n" for _ in range(lines)))
        gc.collect()
        tracemalloc.start()
        assert open_tokens(path).count == lines
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    tracemalloc.start()
    read_words(path)  # for comparison: all at once
    assert tracemalloc.get_traced_memory()[1] > 1.2 * peaks[1]
    tracemalloc.stop()
