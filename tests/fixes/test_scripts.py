"""A script is run with and without each patch; what is kept is what was proven, and nothing is written."""

from __future__ import annotations

import io
import math
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from unstuck.findings import Finding, Place, Severity
from unstuck.fixes import scripts
from unstuck.fixes.files import SourceFile, read_source
from unstuck.fixes.patches.patch import NoPatch, Patch, unified_diff
from unstuck.fixes.scripts import Repaired, ScriptFailedError, ScriptRun, finding_from, repair_script, run_script
from unstuck.trace import Location

SOFTMAX = """
    import sys
    import torch
    from torch import nn

    torch.manual_seed(0)
    x = torch.randn(256, 10)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
LINE = 11  # of the loss


def finding(code: str = "L004", severity: Severity = Severity.WARNING, file: str = "train.py") -> Finding:
    place = Location(file, LINE)
    return Finding(code, "some-fault", severity, "loss", place, (0, 3), 1.0, 0.5, "1", "it is there")


class TestScriptsThatCannotBeJudged:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("print('hello')\n", "no backward pass was seen in {}; name the script that trains"),
            ("x = (\n", "{} ends before any training (exit code 1): SyntaxError: '(' was never closed"),
            ("import sys\nsys.exit('no data')\n", "{} ends before any training (exit code 1): no data"),
            (
                "n = int(input())\n",
                "{} ends before any training (exit code 1): EOFError: EOF when reading a line; "
                "its standard input is empty here, unless it is a file",
            ),
        ],
    )
    def test_they_say_why(self, script, run_here, monkeypatch, text, message):
        monkeypatch.setattr("sys.stdin", io.StringIO())
        path = script(text)
        with pytest.raises(ScriptFailedError) as raised:
            repair_script(path, [], 20)
        assert str(raised.value) == message.format(path)

    def test_one_without_a_report(self, script, monkeypatch):
        done = subprocess.CompletedProcess([], -9, "", "loading\nKilled\n\n")
        monkeypatch.setattr(scripts, "subprocess", SimpleNamespace(run=lambda *_, **__: done, DEVNULL=-3))
        path = script()
        with pytest.raises(ScriptFailedError, match=r"train\.py gave no report \(exit code -9\): Killed$"):
            run_script(path, [], 20)

    def test_the_run_is_not_started_for_a_file_of_no_encoding(self, script, run_here):
        path = script(b"# coding: utf-8\nname = '\xe9'\n")
        with pytest.raises(ValueError, match=r"^cannot read .*train\.py: .*; declare its encoding, as in `# coding"):
            repair_script(path, [], 20)
        assert run_here == []


class TestRuns:
    def test_what_a_run_showed(self, script, run_here):
        path = script(SOFTMAX)
        run = run_script(path, ["--lr", "1"], 30)
        assert run_here == [
            ["run", "--output-format", "json", "--steps", "30", "--seed", "0", "--", str(path), "--lr", "1"],
        ]
        assert (run.steps, run.exit_code, run.error) == (30, 0, "")
        assert 0.5 < run.loss < 1.2
        (found,) = (f for f in run.findings if f.code == "L004")
        assert (found.location.file, found.location.line) == (str(path), LINE)

    def test_a_script_that_does_not_seed_gets_the_same_random_numbers_in_each_run(self, script, run_here):
        text = SOFTMAX.replace("torch.manual_seed(0)", "import random, numpy as np").replace(
            "lr=0.1", "lr=random.random() + np.random.rand()"
        )
        first, second = (run_script(script(text), [], 30).loss for _ in range(2))
        assert first == second

    def test_a_script_that_fails_later(self, script, run_here):
        run = run_script(script(SOFTMAX + "    raise KeyError('lr')\n"), [], 99)
        assert (run.steps, run.exit_code, run.error) == (60, 1, "KeyError: 'lr'")

    def test_the_exit_code_is_the_scripts_own_not_that_of_the_settings(self, script, run_here, tmp_path, monkeypatch):
        path = script(SOFTMAX)
        (tmp_path / "pyproject.toml").write_text('[tool.unstuck]\nfail-on = "warning"\n')
        monkeypatch.chdir(tmp_path)
        assert run_script(path, [], 30).exit_code == 0

    def test_a_redirected_file_is_read_from_its_start_by_each_run(self, tmp_path, monkeypatch):
        seen = []

        def run(command, *, stdin, **_):
            seen.append((stdin, os.read(0, 100)))
            return subprocess.CompletedProcess(command, 1, "", "no")

        monkeypatch.setattr(scripts, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
        (tmp_path / "in.txt").write_bytes(b"5\n")
        before, file = os.dup(0), os.open(tmp_path / "in.txt", os.O_RDONLY)
        try:
            os.dup2(file, 0)
            for _ in range(2):
                with pytest.raises(ScriptFailedError):
                    run_script(tmp_path / "train.py", [], 3)
            reading, writing = os.pipe()
            os.dup2(reading, 0)
            os.close(writing)
            with pytest.raises(ScriptFailedError):
                run_script(tmp_path / "train.py", [], 3)
        finally:
            os.dup2(before, 0)
            for number in (before, file, reading):
                os.close(number)
        assert seen == [(None, b"5\n"), (None, b"5\n"), (subprocess.DEVNULL, b"")]

    def test_a_finding_from_json(self):
        data = {
            "code": "L004",
            "name": "double-softmax",
            "severity": "error",
            "site": "loss",
            "location": None,
            "steps": [0, 7],
            "measured": 0.5,
            "threshold": 0.25,
            "unit": "1",
            "message": "two",
            "evidence": [{"name": "a", "value": None, "unit": "nat"}, {"name": "b", "value": 2.0, "unit": "1"}],
            "related": [{"site": "softmax", "location": {"file": "/a.py", "line": 3, "function": "f"}}],
            "fixes": ["x"],
        }
        found = finding_from(data)
        assert (found.severity, found.location, found.steps) == (Severity.ERROR, None, (0, 7))
        assert math.isnan(found.evidence[0].value)
        assert (found.evidence[1].value, found.evidence[0].unit) == (2.0, "nat")
        assert found.related[0].location == Location("/a.py", 3, "f")
        assert found.fixes == ("x",)


class TestRepair:
    def test_a_patch_that_helps_is_kept_and_nothing_is_written(self, script, run_here):
        path, said = script(SOFTMAX), []
        before, files = path.read_bytes(), sorted(path.parent.iterdir())
        result = repair_script(path, ["7"], 60, said.append)
        assert said == ["running train.py for 60 steps", f"trying drop-softmax for L004 at line {LINE}: 60 steps"]
        (tried,) = result.kept
        assert tried.proof.gone
        assert tried.proof.loss_after < 0.95 * tried.proof.loss_before
        assert tried.proof.steps == 60
        assert result.after == result.file.text.replace(", nn.Softmax(dim=1)", "")
        assert "L004" not in [f.code for f in result.last.findings]
        assert (path.read_bytes(), sorted(path.parent.iterdir())) == (before, files)
        assert [command[-2:] for command in run_here] == [[str(path), "7"]] * 2

    def test_the_order_of_sets_is_the_same_in_each_run(self, script, monkeypatch):
        """Of strings it depends on the process, unless the user has said how."""
        seen = []

        def run(command, *, env, **_):
            seen.append(env["PYTHONHASHSEED"])
            return subprocess.CompletedProcess(command, 1, "", "no")

        monkeypatch.setattr(scripts, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
        for settings in ({}, {"PYTHONHASHSEED": "7"}):
            monkeypatch.delenv("PYTHONHASHSEED", raising=False)
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            with pytest.raises(ScriptFailedError):
                run_script(script(), [], 3)
        assert seen == ["0", "7"]

    def test_a_script_without_a_fault(self, script, run_here):
        text = SOFTMAX.replace(", nn.Softmax(dim=1)", "")
        result = repair_script(script(text), [], 60)
        assert (result.tried, result.refused, result.after) == ([], [], result.file.text)
        assert len(run_here) == 1

    def test_the_patched_script_stands_where_the_script_does(self, script, run_here, tmp_path):
        """Its folder, its `__file__`, its sibling modules and its arguments are the script's."""
        (tmp_path / "sibling_of_the_script.py").write_text("SIZE = 16\n")
        (tmp_path / "n.txt").write_text("256")
        text = SOFTMAX.replace("import sys\n", "import pathlib, sys, sibling_of_the_script\n")
        text = text.replace("Linear(10, 16)", "Linear(10, sibling_of_the_script.SIZE)")
        text = text.replace("randn(256", "randn(int(pathlib.Path(__file__).with_name('n.txt').read_text())")
        text += "    print(__file__, sys.argv)\n"
        result = repair_script(script(text), ["a", "-b"], 99)
        assert len(result.kept) == 1
        assert result.last.exit_code == 0

    def test_a_comment_silences_at_its_line_of_the_patched_text(self, script, run_here):
        """The lines of the patched text, not those of the file, say what is silenced."""
        path = script(SOFTMAX)
        result = repair_script(path, [], 30)
        patched = Path(tempfile.mkdtemp(dir=path.parent)) / "train.py"
        marked = "# one more line\n" + result.file.text.replace("(model(x), y)", "(model(x), y)  # unstuck: ignore")
        patched.write_text(marked)
        assert "L004" not in [f.code for f in run_script(path, [], 30, ["--text-of", str(patched)]).findings]

    def test_a_fault_of_another_file_has_no_patch_here(self, script, run_here, tmp_path):
        (tmp_path / "net_of_the_script.py").write_text(
            "from torch import nn\ndef loss_of(p, y):\n    return nn.functional.cross_entropy(p.softmax(1), y)\n"
        )
        text = SOFTMAX.replace(", nn.Softmax(dim=1)", "").replace("import sys", "import net_of_the_script")
        text = text.replace("nn.functional.cross_entropy(", "net_of_the_script.loss_of(")
        result = repair_script(script(text), [], 60)
        assert (result.tried, result.refused, result.after) == ([], [], result.file.text)
        (found,) = (f for f in result.last.findings if f.code == "L004")
        assert Path(found.location.file).name == "net_of_the_script.py"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\nc\n", [1, 2, 3]),
        ("a\nnew\nb\nc\n", [1, 2, 2, 3]),  # a line more
        ("a\nc\n", [1, 3]),
        ("a\nB\nC\n", [1, 2, 3]),
        ("a\nx\ny\nz\nc\n", [1, 2, 2, 2, 3]),  # three for one
        ("a\nb\nc\nnew\n", [1, 2, 3, 3]),
    ],
)
def test_lines_of_the_patched_text_are_told_as_those_of_the_script(text, lines):
    file = SourceFile(Path("train.py"), "a\nb\nc\n", "utf-8")
    run = ScriptRun((), 1.0, 60, 0)
    result = Repaired(file, [], run, text, run)
    assert [result.line_in_script(text, line + 1) for line in range(len(lines))] == lines


class TestWhatIsNotKept:
    """By what the run of the patched text shows."""

    BEFORE = ScriptRun((finding(),), 1.0, 60, 0)

    def repaired(self, script, monkeypatch, after, before=BEFORE, *, other_objective=False):
        path = script(SOFTMAX)
        runs = [before, after]

        def run(*_):
            done = runs.pop(0)
            if isinstance(done, BaseException):
                raise done
            return done

        text = path.read_bytes().decode()
        patch = Patch("drop-it", "L004", path, LINE, text, "import torch\n", "drop it")
        monkeypatch.setattr(scripts.all_patchers()["L004"], "changes_objective", other_objective)
        monkeypatch.setattr(scripts, "run_script", run)
        monkeypatch.setattr(scripts, "propose", lambda text, findings, file: [patch] if findings else [])
        result = repair_script(path, [], 60)
        (tried,) = result.tried
        assert (result.after == text) is not tried.kept
        return tried

    def test_a_patch_whose_run_is_good_is_kept(self, script, monkeypatch):
        tried = self.repaired(script, monkeypatch, ScriptRun((), 1.04, 60, 0))
        assert (tried.kept, tried.why, tried.proof.gone) == (True, "", True)

    @pytest.mark.parametrize(
        ("after", "why"),
        [
            (ScriptRun((finding(),), 0.1, 60, 0), "L004 is still found"),
            (ScriptRun((), math.inf, 60, 0), "the patched training breaks"),
            (ScriptRun((), 1.06, 60, 0), "the loss became worse"),
            (ScriptRun((finding("U001", Severity.ERROR),), 0.1, 60, 0), "the patched script shows U001"),
            (ScriptRun((), 0.1, 60, 1, "KeyError: 'x'"), "the patched script fails: KeyError: 'x'"),
            (ScriptFailedError("t.py gave no report"), "the patched script fails: t.py gave no report"),
        ],
    )
    def test_one_whose_run_is_not(self, script, monkeypatch, after, why):
        tried = self.repaired(script, monkeypatch, after)
        assert (tried.kept, tried.why) == (False, why)

    def test_a_new_warning_is_allowed(self, script, monkeypatch):
        assert self.repaired(script, monkeypatch, ScriptRun((finding("U001"),), 0.9, 60, 0)).kept

    def test_a_script_that_failed_before_may_fail_again_but_not_sooner(self, script, monkeypatch):
        before = ScriptRun((finding(),), 1.0, 60, 1, "KeyError")
        assert self.repaired(script, monkeypatch, ScriptRun((), 0.9, 60, 1, "KeyError"), before).kept
        tried = self.repaired(script, monkeypatch, ScriptRun((), 0.9, 59, 1, "KeyError: 3"), before)
        assert (tried.kept, tried.why) == (False, "the patched script fails: KeyError: 3")

    def test_updates_of_another_size_may_have_learned_less_but_not_break(self, script, monkeypatch):
        monkeypatch.setattr(scripts.all_patchers()["L004"], "changes_step_size", True)
        assert self.repaired(script, monkeypatch, ScriptRun((), 9.0, 60, 0)).kept
        tried = self.repaired(script, monkeypatch, ScriptRun((), math.inf, 60, 0))
        assert (tried.kept, tried.why) == (False, "the patched training breaks")

    def test_a_loss_of_another_kind_may_be_larger(self, script, monkeypatch):
        assert self.repaired(script, monkeypatch, ScriptRun((), 9.0, 60, 0), other_objective=True).kept

    def test_an_interrupted_trial_leaves_nothing(self, script, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        path = script(SOFTMAX)
        before = path.read_bytes()
        with pytest.raises(KeyboardInterrupt):
            self.repaired(script, monkeypatch, KeyboardInterrupt())
        assert [file.name for file in tmp_path.iterdir()] == ["train.py"]
        assert path.read_bytes() == before


class TestSourceFiles:
    @pytest.mark.parametrize(
        ("data", "encoding"),
        [
            (b"x = 1\r\ny = '\xc3\xa9'", "utf-8"),
            (b"\xef\xbb\xbfx = '\xc3\xa9'\r\n", "utf-8-sig"),
            (b"# -*- coding: latin-1 -*-\nx = '\xe9'\n", "iso-8859-1"),
            (b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nx = '\x80'\n", "cp1252"),
            (b"", "utf-8"),
        ],
    )
    def test_bytes_come_back_as_they_were(self, script, data, encoding):
        file = read_source(script(data))
        assert (file.encoding, file.encoded(file.text)) == (encoding, data)
        assert "\ufeff" not in file.text

    @pytest.mark.parametrize("data", [b"# coding: klingon\n", b"# coding: ascii\nx = '\xe9'\n", b"\xff\xfex"])
    def test_bytes_of_no_encoding(self, script, data):
        with pytest.raises(ValueError, match=r"^cannot read .*train\.py: "):
            read_source(script(data))

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("last", ["", "end"])
    def test_line_endings_are_kept_outside_the_change(self, script, end, last):
        from unstuck.fixes.patches.drop_softmax import DropSoftmax

        lines = [line.removeprefix("    ") for line in SOFTMAX.strip("\n").splitlines()]
        text = end.join(["# é\x0c", *lines]) + (end if last else "")
        made = Place("3", Location("train.py", LINE + 1))
        found = replace(finding(), location=Location("train.py", LINE + 1), related=(made,))
        assert DropSoftmax().patch(text, found, Path("train.py")).after == text.replace(", nn.Softmax(dim=1)", "")

    def test_line_endings_that_cannot_be_kept(self):
        from unstuck.fixes.patches.drop_softmax import DropSoftmax

        with pytest.raises(NoPatch, match=r"^train\.py has line endings that cannot be kept$"):
            DropSoftmax().patch("x = 1\ny = 2\r", finding(), Path("train.py"))

    def test_a_diff_counts_lines_as_patch_does(self):
        before = "a\x0cb\u2028c\r\nd\r\nlast"
        assert unified_diff(before, before.replace("d", "e"), "t.py") == (
            "--- a/t.py\n+++ b/t.py\n@@ -1,3 +1,3 @@\n"
            " a\x0cb\u2028c\r\n-d\r\n+e\r\n last\n\\ No newline at end of file\n"
        )
        assert unified_diff("x\n", "x\n", "t.py") == ""
