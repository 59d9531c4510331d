from __future__ import annotations

import pytest

from unstuck.lm.tables import draw


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        draw(["a", "b"], [["1"]])


def test_text_is_aligned_and_ends_in_no_spaces() -> None:
    assert draw(["a", "long"], [["wide one", "1"], ["", "–"]]) == "a         long\nwide one  1\n          –"


def test_markdown() -> None:
    assert draw(["a", "b"], [["1", "2"]], markdown=True) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
