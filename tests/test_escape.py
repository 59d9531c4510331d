"""Text that others wrote, on a terminal and in a log of GitHub."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.escape import no_commands, one_line, printable


@pytest.mark.parametrize("text", ["", "plain", "a\tb\nc", "Ünïcödé 名前 👩‍👩‍👧‍👦 🏳️‍🌈", "a::b", "  x ::y", "C:\\x"])
def test_ordinary_text_stays(text):
    assert printable(text) == no_commands(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "␛[2J"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("a\rb\x7f\x00", "a␍b␡␀"),
        ("\x9b31m", "\ufffd31m"),
        ("\u202eevil\u2066", "\ufffdevil\ufffd"),
        ("\ud800", "\ufffd"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", ": :error::x"),
        ("a\n  ::stop-commands::y", "a\n  : :stop-commands::y"),
        ("a ##[add-mask]b", "a ## [add-mask]b"),
    ],
)
def test_what_a_runner_would_obey_is_shown(text, shown):
    assert no_commands(text) == shown


@given(st.text(st.characters(codec=None)))
def test_of_any_text(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert shown == printable(shown)
    assert all(c.isprintable() or c in "\n\t" or ord(c) > 0x7F for c in shown)
    shown.encode()
    assert len(one_line(text).splitlines()) <= 1
    lines = [line.lstrip() for line in no_commands(text).split("\n")]
    assert not any(line.startswith("::") or "##[" in line for line in lines)
