import sys
import types
from pathlib import Path

import pytest
from loss_lines import FILE, found, place, text_of

import unstuck.fixes.patches
from unstuck.findings import Place
from unstuck.fixes.patches.catalogue import Refusal, all_patchers, propose
from unstuck.fixes.patches.patch import Patch, Patcher
from unstuck.rules.catalogue import all_rules
from unstuck.trace import Location

HEADINGS = ["## What it does", "## When it must not be used", "## References"]
LOSS = "for x, y in batches:\n    loss = F.cross_entropy(model(x).softmax(1), y)\n    other = F.nll_loss(model(x), y)\n"


def softmax(text, file=FILE):
    at = place(text, "cross_entropy", "loss = ").location
    at = Location(str(file), at.line, at.function)
    return found("L004", Place("cross_entropy", at), Place("softmax", at))


class TestRegistry:
    def test_each_patcher_belongs_to_a_rule(self):
        assert set(all_patchers()) <= set(all_rules())
        assert {"L004", "L005", "L006", "L008", "L010", "A004", "N001"} <= set(all_patchers())

    def test_each_has_a_page_a_name_of_its_own_and_says_what_it_does(self):
        for code, patcher in all_patchers().items():
            page = patcher.documentation()
            places = [page.find(heading) for heading in HEADINGS]
            assert -1 not in places, code
            assert places == sorted(places), code
            assert "https://" in page, code
            assert patcher.code == code
            assert patcher.summary
        assert len({patcher.name for patcher in all_patchers().values()}) == len(all_patchers())

    def test_two_for_one_rule_are_an_error(self, monkeypatch, tmp_path):
        module = types.ModuleType("unstuck.fixes.patches.zz_second")
        body = {"code": "L004", "__module__": module.__name__}
        module.Second = type("Second", (Patcher,), body)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        (tmp_path / "zz_second.py").touch()
        monkeypatch.setattr(unstuck.fixes.patches, "__path__", [*unstuck.fixes.patches.__path__, str(tmp_path)])
        with pytest.raises(RuntimeError, match=r"zz_second and unstuck.fixes.patches.drop_softmax both claim L004"):
            all_patchers.__wrapped__()


class TestPropose:
    def test_rules_without_a_patcher_and_other_files_are_left_out(self):
        text = text_of(LOSS)
        nowhere = found("L004", Place("cross_entropy", None))
        findings = [found("A001", place(text, "tanh", "loss = ")), softmax(text, Path("/elsewhere/train.py")), nowhere]
        assert propose(text, findings, FILE) == []

    def test_a_patch_or_the_reason_for_each_in_their_order(self):
        text = text_of(LOSS)
        bare = found("L010", place(text, "mse_loss", "loss = "))
        scores = found("L005", place(text, "nll_loss", "other = "))
        first, second, third = propose(text, [bare, softmax(text), scores], FILE)
        reason = "no one dimension of size 1 makes the difference between the two shapes"
        assert first == Refusal("L010", bare.location.line, reason)
        assert isinstance(second, Patch)
        assert isinstance(third, Patch)
        assert (second.code, third.code) == ("L004", "L005")
        assert (second.before, third.before) == (text, text)
        assert "nll_loss" in second.after
        assert "softmax(1)" in third.after

    def test_one_patch_for_findings_that_lead_to_the_same(self):
        text = text_of(LOSS)
        assert len(propose(text, [softmax(text), softmax(text)], FILE)) == 1

    def test_a_file_named_in_another_way_is_the_same(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        text = text_of(LOSS)
        (patch,) = propose(text, [softmax(text, tmp_path / "train.py")], Path("train.py"))
        assert isinstance(patch, Patch)

    def test_a_file_that_is_not_python(self):
        text = text_of(LOSS)
        (refusal,) = propose(text + "def (", [softmax(text)], FILE)
        assert isinstance(refusal, Refusal)
        assert refusal.reason.startswith("train.py cannot be parsed: ")
