"""`unstuck run`: what it writes for programs, and to a folder."""

from __future__ import annotations

import json
import re

import pytest

from .programs import EXAMPLE, FAILS_LATER, TRACES, process


class TestJson:
    def test_the_report_alone_on_stdout(self, unstuck, script):
        said = unstuck("--output-format", "json", script(), "--lr", "1")
        report = json.loads(said.out)
        assert report["schema_version"] == 1
        assert report["run"]["command"] == [str(script()), "--lr", "1"]
        assert (report["run"]["steps"], report["run"]["exit_code"]) == (12, 0)
        assert said.err == "before training\nsteps done: 12\n"

    def test_the_step_limit_is_told(self, unstuck, script):
        report = json.loads(unstuck("--output-format", "json", "--steps", 3, script()).out)
        assert (report["run"]["steps"], report["run"]["stopped_by_step_limit"]) == (3, True)

    def test_as_a_process_with_output_past_python(self, script):
        path = script(FAILS_LATER.format("import os, sys; os.system('echo shell'); sys.exit(3)"))
        done = process("-m", "unstuck", "run", "--output-format", "json", path)
        assert json.loads(done.stdout)["run"]["exit_code"] == 3
        assert sorted(done.stderr.splitlines()) == ["five steps done", "shell"]
        assert done.returncode == 3


class TestOtherFormats:
    def test_sarif_alone_on_stdout(self, unstuck):
        said = unstuck("--output-format", "sarif", "--steps", 20, EXAMPLE)
        (run,) = json.loads(said.out)["runs"]
        root = run["results"][0]
        place = root["locations"][0]["physicalLocation"]
        assert (root["ruleId"], root["properties"]["role"]) == ("I002", "root cause")
        assert place["artifactLocation"]["uri"] == "examples/naive_names.py"
        assert (place["region"]["startLine"], place["region"]["snippet"]["text"]) == (
            57,
            "h = torch.tanh(emb @ W1 + b1)",
        )
        assert run["invocations"][0]["exitCode"] == 0

    def test_sarif_of_a_script_that_never_trains(self, unstuck, script):
        said = unstuck("--output-format", "sarif", script("print('hello')"))
        assert said.code == 2
        assert not json.loads(said.out)["runs"][0]["invocations"][0]["executionSuccessful"]
        assert said.err.startswith("hello\nunstuck: no backward pass was seen")

    def test_annotations_after_the_scripts_output(self, unstuck):
        said = unstuck("--output-format", "github", "--steps", 20, EXAMPLE)
        at = said.out.index("unstuck: 2 root causes (I002, L001) in 20 steps of naive_names.py\n")
        first = said.out[at:].splitlines()[1]
        assert first.startswith(
            "::warning file=examples/naive_names.py,line=57,title=I002 unscaled-weights%3A W1 (matmul)::"
        )
        assert said.code == 0


class TestSave:
    def test_both_reports_are_written(self, unstuck, script, tmp_path):
        out = tmp_path / "new" / "folder"
        said = unstuck("--save", out, script())
        names = ["report.json", "report.txt", "report.html", "run.sqlite"]
        assert said.err == f"report saved: {', '.join(str(out / name) for name in names)}\n"
        assert json.loads((out / "report.json").read_text())["run"]["steps"] == 12
        assert (out / "report.txt").read_text().startswith("unstuck: no fault found in 12 steps of train.py\n")
        assert (out / "report.html").read_text().startswith("<!doctype html>\n")
        assert sorted(p.name for p in out.iterdir()) == sorted(names)

    def test_without_the_extra_there_is_no_page_and_a_note_says_so(self, unstuck, script, tmp_path, monkeypatch):
        monkeypatch.setattr("unstuck.report.style.installed", lambda: False)
        said = unstuck("--save", tmp_path / "out", script())
        assert said.err.splitlines()[1:] == [
            'unstuck: report.html is not among them: charts need Altair and vl-convert: pip install "unstuck[html]"'
        ]
        assert not (tmp_path / "out" / "report.html").exists()

    @pytest.mark.parametrize(("option", "mended"), [("--unsafe-fixes", True), ("--fix", False)])
    def test_what_was_mended_is_written_as_code(self, unstuck, tmp_path, option, mended):
        said = unstuck(option, "--save", tmp_path, "--steps", 5, EXAMPLE)
        assert said.err.endswith(f", {tmp_path / 'fixes.py'}, {tmp_path / 'run.sqlite'}\n") is mended
        assert (tmp_path / "fixes.py").exists() is mended
        if mended:
            text = (tmp_path / "fixes.py").read_text()
            first, second = (re.search(rf"^# {code} .*$", text, re.M)[0] for code in ("I002", "L001"))
            assert re.search(r"rescale-weights: W1, b1 \(.*naive_names\.py:57\): pre-activation std 5\.\d+ → 1", first)
            assert re.search(r"shrink-output-layer: W2, b2 \(.*naive_names\.py:58\): starting loss", second)
            assert f"{first}\nW1.data *= 0.19" in text
            compile(text, "fixes.py", "exec")

    def test_a_folder_that_cannot_be_written_is_found_before_training(self, unstuck, script, tmp_path):
        mark, file = tmp_path / "ran", tmp_path / "file"
        file.touch()
        said = unstuck("--save", file / "reports", script(TRACES.format(str(mark))))
        assert said.refusal == f"cannot write the report to {file / 'reports'}: Not a directory; name another folder"
        assert not mark.exists()

    def test_a_file_in_its_place(self, unstuck, script, tmp_path):
        mark, file = tmp_path / "ran", tmp_path / "file"
        file.touch()
        said = unstuck("--save", file, script(TRACES.format(str(mark))))
        assert said.refusal == f"cannot write the report to {file}: File exists; name another folder"
        assert not mark.exists()
