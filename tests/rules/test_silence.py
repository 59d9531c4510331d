"""Comments at source lines and patterns for sites: what they silence, and what they do not."""

import linecache

import pytest

from unstuck.findings import Finding, Severity
from unstuck.rules.silence import is_silenced
from unstuck.trace import Location


@pytest.fixture
def at_line(tmp_path):
    def finding(line, code="A001", site="blocks.0.fc (tanh)"):
        file = tmp_path / "train.py"
        file.write_text(f"x = 1\n{line}\n")
        linecache.checkcache(str(file))
        where = Location(str(file), 2)
        return Finding(code, "saturated", Severity.WARNING, site, where, (0, 1), 2.0, 1.0, "1", "much")

    return finding


@pytest.mark.parametrize(
    "line",
    [
        "y = tanh(x)",
        "y = tanh(x)  # unstuck: ignore[A002]",
        "y = tanh(x)  # unstuck: ignore[A002, G]",
        "y = tanh(x)  # ignore[A001]",
        "y = tanh(x)  # noqa: A001",
        "unstuck = ignore",
    ],
)
def test_other_lines_silence_nothing(at_line, line):
    assert not is_silenced(at_line(line), {})


@pytest.mark.parametrize(
    "line",
    [
        "y = tanh(x)  # unstuck: ignore[A001]",
        "y = tanh(x)  #unstuck:ignore[G001,A001]",
        "y = tanh(x)  # unstuck: ignore[A]",
        "y = tanh(x)  # unstuck: ignore[a001]",
        "y = tanh(x)  # noqa  # unstuck: ignore",
        "y = tanh(x)  # unstuck: ignore[]",
    ],
)
def test_a_comment_silences_its_codes_and_without_any_all(at_line, line):
    assert is_silenced(at_line(line), {})


def test_a_comment_on_another_line_does_not_count(at_line, tmp_path):
    finding = at_line("y = tanh(x)")
    (tmp_path / "train.py").write_text("x = 1  # unstuck: ignore[A001]\ny = tanh(x)\n")
    linecache.checkcache(str(tmp_path / "train.py"))
    assert not is_silenced(finding, {})


def test_a_finding_without_a_place_or_whose_file_is_gone(at_line, tmp_path):
    finding = at_line("y = tanh(x)  # unstuck: ignore")
    (tmp_path / "train.py").unlink()
    linecache.checkcache(str(tmp_path / "train.py"))
    assert not is_silenced(finding, {})
    nowhere = Finding("A001", "saturated", Severity.WARNING, "the run", None, (0, 1), 2.0, 1.0, "1", "much")
    assert not is_silenced(nowhere, {})


@pytest.mark.parametrize(
    ("pattern", "codes", "silent"),
    [
        ("blocks.*", ("A001",), True),
        ("blocks.?.fc*", ("A",), True),
        ("*", ("G", "A001"), True),
        ("blocks.1*", ("A001",), False),
        ("blocks.0", ("A001",), False),
        ("blocks.*", ("G001",), False),
        ("blocks.*", (), False),
        ("BLOCKS.*", ("A001",), False),
    ],
)
def test_patterns_for_sites(at_line, pattern, codes, silent):
    assert is_silenced(at_line("y = tanh(x)"), {pattern: codes}) is silent
