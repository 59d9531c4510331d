"""How a run ended, in words."""

from __future__ import annotations

import pytest

from unstuck.trace.ending import MOST_CHARACTERS, ending, exception_line


@pytest.mark.parametrize("exit_code", [None, 0])
def test_of_a_good_end_nothing_is_said(exit_code):
    assert ending(exit_code) == ""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ((3,), "ended with exit code 3"),
        ((1, "KeyError: 'x'"), "ended with exit code 1 (KeyError: 'x')"),
        ((None, "KeyError: 'x'"), "ended with KeyError: 'x'"),
        ((130, "", "SIGINT"), "was interrupted (Ctrl-C)"),
        ((143, "", "SIGTERM"), "was ended by SIGTERM"),
    ],
)
def test_other_ends(how, said):
    assert ending(*how) == said


def test_a_long_exception_is_cut():
    line = exception_line(ValueError("x" * 10_000))
    assert line.startswith("ValueError: xxx")
    assert line.endswith("x…")
    assert len(line) == MOST_CHARACTERS
