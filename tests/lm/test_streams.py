from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unstuck.lm.data import Vocabulary
from unstuck.lm.errors import LmError
from unstuck.lm.examples import examples_of
from unstuck.lm.streams import IGNORED, Sequences, Windows

WORDS = st.lists(st.text("abcé", min_size=1, max_size=9), min_size=1, max_size=12)
LETTERS = Vocabulary.of("abcé")


@pytest.mark.parametrize("kind", [Windows, Sequences])
@pytest.mark.parametrize("context", [0, 257])
def test_a_context_out_of_range_is_refused(kind: type[Windows], context: int) -> None:
    with pytest.raises(LmError, match=rf"^context is {context}: give a whole number from 1 to 256$"):
        kind(LETTERS.encode(["a"]), context)


@given(WORDS, st.integers(1, 12), st.sampled_from(["uint8", "int64"]))
def test_windows_are_the_examples_made_at_once(words: list[str], context: int, dtype: str) -> None:
    made = examples_of(words, LETTERS, context)
    windows = Windows(LETTERS.encode(words).astype(dtype), context)
    assert len(windows) == windows.rows == len(made)
    rows = torch.arange(len(made)).flip(0)
    for found, expected in zip(windows.batch(rows), made.batch(rows), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(windows.contexts[2:9], made.contexts[2:9])


@given(WORDS, st.integers(1, 12), st.sampled_from(["uint8", "int64"]))
def test_sequences_predict_every_symbol_once_from_what_stands_before_it(
    words: list[str], context: int, dtype: str
) -> None:
    tokens = LETTERS.encode(words)
    part = Sequences(tokens.astype(dtype), context)
    assert len(part) == len(tokens)
    found = []
    for row in range(part.rows):
        symbols, targets = (one[0].tolist() for one in part.batch(torch.tensor([row])))
        assert len(symbols) == len(targets) <= context
        for place, target in enumerate(targets):
            if target != IGNORED:
                found.append((tuple(symbols[: place + 1]), target))
    expected = [(word_so_far, target) for word in words for word_so_far, target in naive(word)]
    assert len(found) == len(expected)
    for (seen, target), (whole, wanted) in zip(found, expected, strict=True):
        assert target == wanted
        assert whole[-len(seen) :] == seen
        assert len(seen) == len(whole) or len(seen) > context - max(context // 2, 1)


def naive(word: str) -> list[tuple[tuple[int, ...], int]]:
    """Everything before a symbol of a word, the boundary first, and the symbol."""
    ids = [0, *(1 + LETTERS.characters.index(c) for c in word), 0]
    return [(tuple(ids[:k]), ids[k]) for k in range(1, len(ids))]


@given(WORDS, st.integers(1, 12))
def test_rows_of_a_batch_are_filled_up_with_what_does_not_count(words: list[str], context: int) -> None:
    part = Sequences(LETTERS.encode(words), context)
    symbols, targets = part.batch(torch.arange(part.rows))
    assert symbols.shape == targets.shape
    assert symbols.shape[1] == max(part.lengths)
    assert int((targets != IGNORED).sum()) == len(part)
    for row in range(part.rows):
        alone = part.batch(torch.tensor([row]))
        length = alone[0].shape[1]
        assert torch.equal(symbols[row, :length], alone[0][0])
        assert torch.equal(targets[row, :length], alone[1][0])
        assert not symbols[row, length:].any()
        assert targets[row, length:].eq(IGNORED).all()
