"""Patches as reports carry them: of each finding whose rule has a patcher, or why there is none."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from report.made import finding
from unstuck import api, proposals
from unstuck.findings import Place
from unstuck.fixes.patches.drop_softmax import DropSoftmax
from unstuck.report import Edit
from unstuck.trace import Location

SCRIPT = """\
import torch.nn.functional as F
p = F.softmax(model(x), dim=1)
loss = F.cross_entropy(p, y)
"""


def double_softmax(path, **fields):
    softmax = Place("softmax", Location(str(path), 2))
    return finding("L004", "double-softmax", **{"location": Location(str(path), 3), "related": (softmax,), **fields})


def applied(text: str, edits: tuple[Edit, ...]) -> str:
    """The text after edits, as a reader of lines and columns makes it."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        first, last = (starts[line - 1] + column - 1 for line, column in (edit.start, edit.end))
        text = text[:first] + edit.text + text[last:]
    return text


class TestRefused:
    def test_a_rule_without_a_patcher_is_not_spoken_of(self, script):
        assert proposals.source_patches([finding(location=Location(str(script(SCRIPT)), 2))]) == {}

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"location": None}, "the finding names no line"),
            ({"location": Location("/no/such.py", 3)}, "such.py cannot be read: No such file or directory"),
            ({"location": Location("/x/site-packages/a.py", 3)}, "a.py belongs to an installed package"),
            ({"location": Location("/work.ipynb[cell 3]", 3)}, "work.ipynb[cell 3] cannot be read: No such file or "),
        ],
    )
    def test_a_file_that_cannot_be_patched(self, fields, reason):
        (patch,) = proposals.source_patches([double_softmax("/a.py", **fields)]).values()
        assert (patch.diff, patch.edits) == ("", ())
        assert patch.reason.startswith(reason)

    def test_a_form_that_is_not_understood(self, script):
        path = script(SCRIPT.replace("model(x)", "*model(x)"))
        (patch,) = proposals.source_patches([double_softmax(path)]).values()
        assert (patch.diff, bool(patch.reason)) == ("", True)

    def test_a_file_that_is_not_python_any_more(self, script):
        (patch,) = proposals.source_patches([double_softmax(script("def (:\n"))]).values()
        assert patch.reason.startswith("train.py cannot be parsed: ")

    @pytest.mark.parametrize("held", [{}, {"x": SCRIPT}, {"train.py": SCRIPT + "# changed since"}])
    def test_a_file_that_a_stored_run_does_not_hold_as_it_is(self, script, held):
        path = script(SCRIPT)
        sources = {str(path.parent / name): text for name, text in held.items()}
        (patch,) = proposals.source_patches([double_softmax(path)], sources).values()
        assert patch.reason == "train.py is not here as it was when the run was stored; run it again"
        assert patch.diff == ""

    def test_a_large_file_is_not_compared_with_what_a_stored_run_holds(self, script, monkeypatch):
        path = script(SCRIPT)
        monkeypatch.setattr(proposals, "LARGEST_FILE", 10)
        (patch,) = proposals.source_patches([double_softmax(path)], {str(path): SCRIPT}).values()
        assert patch.reason.startswith("train.py is not here")

    def test_an_unknown_encoding(self, script):
        (patch,) = proposals.source_patches([double_softmax(script(b"# coding: no-such\nx = 1\n"))]).values()
        assert patch.reason.startswith("no patch could be made: ValueError: cannot read ")

    def test_a_patcher_that_fails_costs_nobody_the_report(self, script, monkeypatch):
        monkeypatch.setattr(DropSoftmax, "rewrite", lambda *_: 1 / 0)
        (patch,) = proposals.source_patches([double_softmax(script(SCRIPT))]).values()
        assert patch.reason == "no patch could be made: ZeroDivisionError: division by zero"

    def test_more_findings_than_are_looked_at(self, script, monkeypatch):
        monkeypatch.setattr(proposals, "MOST_PATCHES", 1)
        path = script(SCRIPT)
        first, second = proposals.source_patches([double_softmax(path), double_softmax(path, site="b")]).values()
        assert first.diff
        assert (second.diff, second.reason[:28]) == ("", "a patch is looked for 1 find")


class TestPatched:
    @pytest.mark.parametrize("end", ["\n", ""])
    @pytest.mark.parametrize("begin", ["", "# a\f b\n\n"])
    def test_diff_and_edits_say_the_same(self, script, end, begin):
        text = begin + SCRIPT.rstrip("\n") + end
        path = script(text.encode())
        softmax = Place("softmax", Location(str(path), 2 + begin.count("\n")))
        found = double_softmax(path, location=Location(str(path), 3 + begin.count("\n")), related=(softmax,))
        (patch,) = proposals.source_patches([found]).values()
        assert (patch.name, patch.reason) == ("drop-softmax", "")
        after = applied(text, patch.edits)
        assert "softmax" not in after
        assert "cross_entropy(p, y)" in after
        if shutil.which("git"):
            subprocess.run(["git", "apply", "-"], input=patch.diff.encode(), cwd=path.parent, check=True)
            assert path.read_text() == after

    def test_the_last_line_and_new_ones_after_it(self):
        for before, after in (
            ("a\nb", "a\nc\nd"),
            ("a\n", "a\nb\n"),
            ("a\nb", "a\n"),
            ("", "a\n"),
            ("a", "b"),
            ("a\nb\n", ""),
        ):
            assert applied(before, proposals._edits(before, after)) == after

    def test_a_report_asks_for_them(self, script, monkeypatch):
        found = double_softmax(script(SCRIPT))
        made = api.make_report(api.Trace(), api.Config(), api.RunInfo())
        assert made.source_patches([found])[found].name == "drop-softmax"
