"""Workflow commands of GitHub."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unstuck.findings import Severity
from unstuck.report import Report
from unstuck.trace import Location, Trace

from .made import finding, fix, report


def commands(made: Report) -> list[tuple[str, dict[str, str], str]]:
    """What GitHub reads: (command, properties, message) of each line after the first, as its runner unescapes them."""
    read = []
    for line in made.render("github").split("\n")[1:-1]:
        name, properties, message = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line).groups()
        pairs = dict(part.split("=", 1) for part in properties.split(","))
        read.append((name, {key: plain(value) for key, value in pairs.items()}, plain(message)))
    return read


def plain(text: str) -> str:
    for escape, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(escape, character)
    return text


@pytest.fixture
def place(tmp_path: Path) -> Location:
    (tmp_path / ".git").mkdir()
    return Location(str(tmp_path / "src, a" / "train:1.py"), 3)


class TestHostile:
    """Nothing of the user's program ends a command early or begins one."""

    @pytest.mark.parametrize(
        "text", ["a\n::add-mask::x", "a\r\n::error::x", "100 %0A", "a::b", "a,b=c", "名 \u2028", "\x1b[2J"]
    )
    def test_any_text_anywhere(self, place, text):
        made = report(
            finding(message=text, site=text, location=place),
            finding("I002", "unscaled-weights", location=Location(f"{place.file}{text}", 9), message=text),
            fixes=(fix(site=text),),
            withheld=(text,),
            title=text,
        )
        first, *rest = made.render("github").split("\n")[:-1]
        assert first.startswith("unstuck: ")
        assert len(rest) == 4
        assert all(line.startswith(("::warning file=", "::notice ")) for line in rest)
        (_, where, message), (_, second, _) = sorted(commands(made), key=lambda c: c[1]["title"])[:2]
        shown = text.replace("\u2028", "\ufffd").replace("\x1b", "␛")
        assert message.startswith(f"{shown}; ") or message == shown
        assert where["title"] == f"A001 saturated: {shown}"
        assert second["file"] == f"src, a/train:1.py{shown}"


class TestAnnotations:
    def test_a_healthy_run_is_one_plain_line(self):
        assert report().render("github") == "unstuck: no fault found in 10 steps of train.py\n"

    def test_a_finding_at_its_line_below_the_repository(self, place):
        assert commands(report(finding(location=place, fixes=("rescale-weights",), severity=Severity.ERROR))) == [
            (
                "error",
                {"file": "src, a/train:1.py", "line": "3", "title": "A001 saturated: tanh"},
                "60 % of the outputs are saturated; remedy: rescale-weights; see `unstuck rule A001`",
            )
        ]

    def test_root_causes_come_first_for_only_ten_are_shown(self, place):
        made = commands(
            report(
                finding(location=place),
                finding(location=place, site="b"),
                finding("I002", "unscaled-weights", explains=("A001",)),
                finding("I002", "unscaled-weights", site="W2"),
                finding("L001", "overconfident-start", severity=Severity.INFO, location=None),
            )
        )
        assert [(name, place["title"]) for name, place, _ in made] == [
            ("warning", "I002 unscaled-weights: tanh"),
            ("notice", "L001 overconfident-start: tanh"),
            ("warning", "I002 unscaled-weights: W2"),
            ("warning", "A001 saturated: tanh"),
            ("warning", "A001 saturated: b"),
        ]
        assert "; it explains A001 saturated; " in made[0][2]
        assert made[1][1].keys() == {"title"}
        assert made[3][2].endswith("; explained by I002 unscaled-weights")

    def test_a_cell_of_a_notebook_is_named_for_its_lines_are_not_the_files(self, place):
        file = place.file.replace("train:1.py", "work.ipynb")
        ((_, where, message),) = commands(report(finding(location=Location(f"{file}[cell 3]", 2))))
        assert where.keys() == {"file", "title"}
        assert where["file"] == "src, a/work.ipynb"
        assert message.startswith("cell 3, line 2: 60 % ")

    def test_what_is_no_file(self):
        ((_, where, message),) = commands(report(finding(location=Location("<stdin>", 2))))
        assert where.keys() == {"title"}
        assert message.startswith("<stdin>, line 2: 60 % ")

    def test_a_run_that_never_trained(self):
        assert commands(report(trace=Trace(), steps=0)) == [
            ("error", {"title": "unstuck"}, "no backward pass was seen: nothing to judge")
        ]

    def test_an_internal_error(self):
        trace = Trace()
        trace.facts.backward_calls, trace.facts.internal_error = 1, "KeyError"
        assert commands(report(trace=trace)) == [
            ("error", {"title": "unstuck"}, "watching ended early by an internal error: KeyError")
        ]

    def test_what_was_mended_and_what_was_not(self, place):
        made = commands(report(fixes=(fix(location=place), fix(kept=False, why="no")), withheld=("x: why",)))
        assert [(name, where["title"]) for name, where, _ in made] == [
            ("notice", "mended: rescale-weights"),
            ("notice", "not mended"),
        ]
        assert made[0][1]["line"] == "3"
        assert made[0][2].endswith("pre-activation std 5.432 → 1")
