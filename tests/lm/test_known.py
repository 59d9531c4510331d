from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.lm import known as module
from unstuck.lm.data import Vocabulary
from unstuck.lm.known import KnownWords

LETTERS = Vocabulary.of("abcé")
WORDS = st.lists(st.text("abcé", min_size=1, max_size=9), max_size=30)


@given(WORDS, WORDS, st.integers(1, 40))
def test_it_is_membership_in_a_set(words: list[str], asked: list[str], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        known = KnownWords(LETTERS.encode(words).astype("uint8"), len(LETTERS))
    assert known.contains(LETTERS.encode(asked)).tolist() == [word in set(words) for word in asked]


def test_the_order_of_the_letters_counts() -> None:
    known = KnownWords(LETTERS.encode(["ab", "aab"]), len(LETTERS))
    assert known.contains(LETTERS.encode(["ba", "aba", "ab", "a", "aabb"])).tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
