"""A report as an object: verdict, formats, saving."""

from __future__ import annotations

import ast
import json
import math

import pytest

from rules.helpers import TraceBuilder
from rules.ranks.several import alone, merged
from unstuck.findings import Severity
from unstuck.fixes.fix import Proof
from unstuck.report import Report
from unstuck.report.report import rank_losses, recent_loss, shared, starting_loss
from unstuck.trace import LossCall, Trace

from .made import finding, fix, report

NAMES = ["report.json", "report.txt", "report.html"]


class TestOk:
    def test_a_healthy_run(self):
        assert report().ok
        assert report().worst is Severity.INFO

    def test_information_alone(self):
        assert report(finding(severity=Severity.INFO)).ok

    @pytest.mark.parametrize("severity", [Severity.WARNING, Severity.ERROR])
    def test_worse_findings(self, severity):
        made = report(finding(severity=Severity.INFO), finding(severity=severity))
        assert not made.ok
        assert made.worst is severity

    def test_a_run_that_never_trained(self):
        assert not report(trace=Trace()).ok


def test_codes_each_once_in_causal_order():
    found = (finding("A001", "saturated"), finding("I002", "unscaled-weights"), finding("A001", "saturated", site="b"))
    assert report(*found).codes() == ["I002", "A001"]
    assert report().codes() == []


class TestRender:
    def test_text_unless_told(self):
        made = report(finding())
        assert made.render() == made.render("text")
        assert str(made) == made.render().rstrip("\n")

    def test_json(self):
        assert json.loads(report().render("json"))["ok"] is True

    @pytest.mark.parametrize("name", ["HTML", "JSON", ""])
    def test_another_format(self, name):
        with pytest.raises(ValueError, match=rf"^no output format '{name}'; choose from text, json, html"):
            report().render(name)


class TestSave:
    def test_all_formats_into_a_new_folder(self, tmp_path):
        made = report(finding(message="π ≈ 3.14"))
        paths = made.save(tmp_path / "a" / "b")
        assert paths == [tmp_path / "a" / "b" / name for name in NAMES]
        assert paths[0].read_text(encoding="utf-8") == made.render("json")
        assert paths[1].read_text(encoding="utf-8") == made.render("text")
        assert "π ≈ 3.14" in paths[2].read_text(encoding="utf-8")

    def test_without_charts_there_is_no_page(self, tmp_path, monkeypatch):
        monkeypatch.setattr("unstuck.report.style.installed", lambda: False)
        assert [path.name for path in report().save(tmp_path)] == NAMES[:2]

    def test_over_an_earlier_report(self, tmp_path):
        report(finding()).save(tmp_path)
        report().save(tmp_path)
        assert json.loads((tmp_path / "report.json").read_text())["causes"] == []
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(NAMES)

    def test_fixes_that_were_put_back_give_no_snippets(self, tmp_path):
        paths = report(fixes=(fix(kept=False, why="no"),)).save(tmp_path)
        assert [path.name for path in paths] == NAMES

    def test_snippets_of_the_fixes(self, tmp_path):
        proof = Proof(200, 2.5, 1.25, gone=True)
        put_back = fix(kept=False, why="no", snippet="spoil()")
        none = fix(name="scale-learning-rate", code="U001", location=None, step=7, after=None, unit="nat", snippet="")
        *_, path = report(fixes=(fix(proof=proof), put_back, none)).save(tmp_path)
        assert path == tmp_path / "fixes.py"
        text = path.read_text(encoding="utf-8")
        assert text == (
            "# What unstuck mended in train.py. The names are those of the training script, where `model` and\n"
            "# `optimizer` stand for its own names of them (`linear_2`: the second nn.Linear by itself): put\n"
            "# each part there, before the first step or where its comment says; then nothing needs mending.\n"
            "\n"
            "# I002 rescale-weights: W1, b1 (/home/user/train.py:3): pre-activation std 5.432 → 1\n"
            "# loss after 200 steps 2.5 → 1.25, the finding is gone\n"
            "W1.data *= 0.184\n"
            "b1.data *= 0.184\n"
            "\n"
            "# U001 scale-learning-rate: W1, b1 after step 7: pre-activation std 5.432 → not measured again\n"
        )
        ast.parse(text)

    def test_snippets_of_an_earlier_report_go_but_no_file_of_the_user(self, tmp_path):
        report(fixes=(fix(),)).save(tmp_path)
        assert (tmp_path / "fixes.py").exists()
        report().save(tmp_path)
        assert not (tmp_path / "fixes.py").exists()
        (tmp_path / "fixes.py").write_text("mine = True\n")
        report().save(tmp_path)
        assert (tmp_path / "fixes.py").read_text() == "mine = True\n"

    def test_snippets_stand_beside_a_file_of_the_user(self, tmp_path):
        (tmp_path / "fixes.py").write_text("mine = True\n")
        *_, path = report(fixes=(fix(),)).save(tmp_path)
        assert path == tmp_path / "report.fixes.py"
        assert (tmp_path / "fixes.py").read_text() == "mine = True\n"

    def test_links_are_replaced_and_not_what_they_lead_to(self, tmp_path):
        (tmp_path / "mine").write_text("mine")
        folder = tmp_path / "report"
        folder.mkdir()
        for name in (*NAMES, "fixes.py"):
            (folder / name).symlink_to(tmp_path / ("mine" if name in NAMES else "nothing"))
        report(fixes=(fix(),)).save(folder)
        assert (tmp_path / "mine").read_text() == "mine"
        assert not (tmp_path / "nothing").exists()
        assert not any(path.is_symlink() for path in folder.iterdir())

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="Not a directory"):
            report().save(tmp_path / "file" / "folder")


class TestLosses:
    def test_the_loss_call_of_step_0_and_its_baseline(self):
        b = TraceBuilder(range(3))
        b.loss(value=27.88, baseline=3.2958)
        b.trace.objective[0] = 27.88
        assert starting_loss(b.trace) == (27.88, 3.2958)

    def test_the_objective_where_the_loss_call_is_but_a_part_of_it(self):
        b = TraceBuilder(range(3))
        b.loss(value=2.3, baseline=2.2)
        b.trace.objective[0] = 9.0
        assert starting_loss(b.trace) == (9.0, None)

    def test_else_the_tensor_of_backward(self):
        assert starting_loss(TraceBuilder(range(3)).trace) == (1.0, None)

    def test_a_later_call_is_not_the_start(self):
        trace = Trace(loss_calls=[LossCall(4, 0, 2.0, 1.0)])
        assert starting_loss(trace) == (None, None)

    def test_recent_is_the_mean_of_the_last_finite_ones(self):
        trace = Trace(objective={step: float(step) for step in range(300)})
        assert recent_loss(trace) == sum(range(200, 300)) / 100
        assert recent_loss(trace, window=1) == 299
        trace.objective[300] = math.nan
        assert recent_loss(trace, window=2) == 299

    def test_recent_of_nothing_finite(self):
        assert recent_loss(Trace()) is None
        assert recent_loss(Trace(objective={0: math.inf})) is None


def test_shared_counts_in_order_of_first_appearance():
    found = [finding("U001", "oversized-updates"), finding(), finding("U001", "oversized-updates")]
    assert shared(found) == [("U001 oversized-updates", 2), ("A001 saturated", 1)]
    assert shared([]) == []


def test_a_report_does_not_print_its_trace():
    assert "trace=" not in repr(report())
    assert isinstance(report(), Report)


class TestRankLosses:
    def test_a_process_by_itself(self):
        assert rank_losses(alone().trace) == []

    def test_those_of_the_last_steps(self):
        """Each for as many steps as it tells of."""
        b, _ = merged([0, 10, 15, 20], rank_loss=lambda step: [float(step), 2.0 * step])
        assert rank_losses(b.trace, 11) == [13.75, 27.5]
        assert rank_losses(b.trace, 1) == [20.0, 40.0]

    def test_one_merge_at_least(self):
        b, _ = merged([0, 10], rank_loss=lambda step: [float(step), 3.0])
        b.trace.objective[500] = 1.0
        assert rank_losses(b.trace) == [10.0, 3.0]

    def test_a_rank_without_finite_ones(self):
        b, _ = merged([0, 1], rank_loss=lambda step: [math.nan, math.inf if step else 3.0])
        first, second = rank_losses(b.trace)
        assert math.isnan(first)
        assert second == 3.0
