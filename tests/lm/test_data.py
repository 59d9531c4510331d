from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.lm.data import SHIPPED, Vocabulary, prepare, read_words, split_words
from unstuck.lm.errors import LmError

WORD = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=12)
WORDS = st.lists(WORD, min_size=1, max_size=30)


def test_lines_are_words_without_surrounding_space_and_blank_lines(write: Callable[..., Path]) -> None:
    path = write(b"\xef\xbb\xbfemma\r\n\r\n  ava\t\n\nde la cruz")
    read = read_words(path)
    assert read.words == ["emma", "ava", "de la cruz"]
    assert read.lines == [1, 3, 5]
    assert read.source == str(path)
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_shipped_names_are_read_by_name() -> None:
    read = read_words()
    assert read.source == SHIPPED
    assert (len(read.words), len(set(read.words))) == (32_257, 29_693)
    assert Vocabulary.of(read.words).characters == tuple("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "words.txt holds no words: give a text file with one word per line"),
        (b" \n\n", "words.txt holds no words: give a text file with one word per line"),
        (
            b"emma\nzo\xe9\n",
            "words.txt line 2 (byte offset 7) is not UTF-8 text: 0xe9 cannot stand there; "
            "save the file as UTF-8 text with one word per line",
        ),
        (
            b"emma\nav\x00a\n",
            "words.txt line 2 holds the control character U+0000: give a plain text file with one word per line",
        ),
        (
            b"emma\tF\t20\n",
            "words.txt line 1 holds the control character U+0009: give a plain text file with one word per line",
        ),
    ],
    ids=["empty", "blank", "latin-1", "binary", "table"],
)
def test_a_file_that_is_no_word_list_is_refused(write: Callable[..., Path], content: bytes, message: str) -> None:
    path = write(content)
    with pytest.raises(LmError) as caught:
        read_words(path)
    assert str(caught.value) == str(path.parent / message)


def test_a_missing_file_a_folder_and_an_unreadable_path_are_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(LmError, match=r"^data file nowhere\.txt does not exist: give a text file with one word per"):
        read_words("nowhere.txt")
    with pytest.raises(LmError, match=r"is a folder: give a text file"):
        read_words(tmp_path)
    with pytest.raises(LmError, match=r"cannot be read \(Not a directory\): check the path and its rights"):
        read_words(write("emma") / "below")
    with pytest.raises(LmError, match=r"cannot be read \(embedded null byte\)"):
        read_words("a\0b")


@given(WORDS)
def test_decoding_gives_back_the_encoded_words(words: list[str]) -> None:
    vocabulary = Vocabulary.of(words)
    tokens = vocabulary.encode(words)
    assert len(tokens) == sum(len(word) + 1 for word in words)
    ends = [-1, *(place for place, one in enumerate(tokens) if one == 0)]
    spelled = [vocabulary.decode(tokens[a + 1 : b + 1].tolist()) for a, b in pairwise(ends)]
    assert spelled == words


def test_a_dot_in_a_word_is_a_symbol_of_its_own_and_not_the_boundary() -> None:
    vocabulary = Vocabulary.of(["st.john", "j."])
    tokens = vocabulary.encode(["j.", "st.john"]).tolist()
    dot = 1 + vocabulary.characters.index(".")
    assert tokens[:3] == [1 + vocabulary.characters.index("j"), dot, 0]
    assert vocabulary.decode(tokens[3:]) == "st.john"


def test_an_unknown_character_names_the_word() -> None:
    vocabulary = Vocabulary.of(["ava"])
    message = (
        "the word list: the word 'zoé' holds 'z' (U+007A), which the vocabulary of 2 characters lacks: "
        "remove the word, or train on data that has it"
    )
    with pytest.raises(LmError) as caught:
        vocabulary.encode(["ava", "zoé"])
    assert str(caught.value) == message


@pytest.mark.parametrize("characters", [(), ("ab",), ("b", "a"), ("a", "a"), ("\n",), ("\x1b",)])
def test_a_vocabulary_that_cannot_be_is_refused(characters: tuple[str, ...]) -> None:
    with pytest.raises(LmError, match="a vocabulary must"):
        Vocabulary(characters)


@given(st.lists(WORD, min_size=10, max_size=60), st.sampled_from(["words", "lines"]), st.integers(0, 5))
def test_the_parts_hold_every_line_once(words: list[str], by: str, seed: int) -> None:
    if len(set(words)) < 10:
        words = [*words, *"abcdefghij"]
    split = split_words(words, by, seed)
    assert Counter(split.train) + Counter(split.val) + Counter(split.test) == Counter(words)
    assert all((split.train, split.val, split.test))


@given(st.lists(st.sampled_from("abcdefghijklmnop"), min_size=0, max_size=60))
def test_by_words_nothing_leaks_between_the_parts(extra: list[str]) -> None:
    split = split_words([*"abcdefghijklmnop", *extra], "words")
    assert split.leaked == 0
    assert not set(split.train) & set(split.test)
    assert not set(split.val) & set(split.test)


def test_by_lines_it_is_the_lecture_s_split() -> None:
    words = read_words().words
    shuffled = list(words)
    random.seed(42)
    random.shuffle(shuffled)
    split = split_words(words, "lines")
    assert [*split.train, *split.val, *split.test] == shuffled
    assert [len(split.train), len(split.val)] == [int(0.8 * 32_257), int(0.9 * 32_257) - int(0.8 * 32_257)]
    assert split.leaked == 408


def test_words_in_lower_case_and_without_rare_characters(write: Callable[..., Path]) -> None:
    read = read_words(write("Ava", "", "ÉVA", "zoë", "eve"))
    assert prepare(read) == read
    lower = prepare(read, lower=True)
    assert (lower.words, lower.lines) == (["ava", "éva", "zoë", "eve"], [1, 3, 4, 5])
    assert (lower.source, lower.sha256) == (read.source, read.sha256)
    assert prepare(read, min_count=2).words == ["eve"]  # V and A stand twice, but a, É, z, o and ë once
    assert prepare(read, lower=True, min_count=2).words == ["ava", "eve"]
    with pytest.raises(LmError, match=r"words\.txt: every word holds a character that is rarer than 9: lower --min-c"):
        prepare(read, min_count=9)


@given(WORDS)
def test_rows_are_decoded_as_words_are_one_by_one(words: list[str]) -> None:
    vocabulary = Vocabulary.of(words)
    rows = np.zeros((len(words), 14), dtype=np.int64)
    for row, word in zip(rows, words, strict=True):
        row[: len(word)] = vocabulary.encode([word])[:-1]
        row[len(word) + 1 :] = 1  # what stands behind a boundary does not count
    assert vocabulary.decode_rows(rows) == words
    assert vocabulary.decode_rows(rows[:, :1]) == [word[:1] for word in words]


def test_without_repeated_words_both_splits_agree() -> None:
    words = list(dict.fromkeys(read_words().words))
    assert split_words(words, "words") == split_words(words, "lines")


def test_too_few_words_are_refused() -> None:
    with pytest.raises(LmError, match=r"^x holds one word only: give at least 6 different words$"):
        split_words(["ava"] * 20, "lines", name="x")
    with pytest.raises(LmError, match=r"^x holds 5 different words, and the 80/10/10 split leaves no validation "):
        split_words(list("aabcde"), name="x")
    with pytest.raises(LmError, match=r"^x holds 5 lines, and the 80/10/10 split leaves no validation word: give at"):
        split_words(list("abcde"), "lines", name="x")
    assert split_words(list("abcdef")).val
    with pytest.raises(LmError, match=r"^unknown split 'letters': choose one of words, lines$"):
        split_words(list("abcdef"), "letters")
