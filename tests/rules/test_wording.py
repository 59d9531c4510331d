"""Numbers stay short enough to be read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.rules.wording import ratio_of


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.4, "0"),
        (12.6, "13"),
        (1_234.4, "1,234"),
        (999_999.0, "999,999"),
        (1e6, "1e6"),
        (7.72e42, "7.7e42"),
        (1e300, "1e300"),
        (math.inf, "inf"),
    ],
)
def test_ratios(value, expected):
    assert ratio_of(value) == expected


@given(st.floats(0, 1e300))
def test_none_is_longer_than_nine_characters(value):
    assert len(ratio_of(value)) <= 9
    assert float(ratio_of(value).replace(",", "")) == pytest.approx(value, rel=0.06, abs=0.5)
