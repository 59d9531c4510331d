import ast
import importlib
import inspect
import re
import tokenize
from pathlib import Path

import pytest

import unstuck.rules
from unstuck.fixes.catalogue import all_remedies
from unstuck.rules.catalogue import UnknownRuleError, all_rules, check_thresholds, choose, get_rule
from unstuck.rules.rule import HEADINGS, Rule, Stage

RULES = list(all_rules().values())
GROUPS = {"loss": "L", "init": "I", "activation": "A", "gradient": "G", "update": "U", "norm": "N", "data": "D"}
GROUPS |= {"loop": "T", "attention": "S", "ranks": "R"}
FIRST_TEN = {"L001", "L011", "I001", "I002", "A001", "A002", "G001", "G003", "U001", "N001"}

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


def test_first_ten_are_there():
    assert set(all_rules()) >= FIRST_TEN


def test_names_are_unique():
    assert len({rule.name for rule in RULES}) == len(RULES)


@each_rule
class TestEachRule:
    def test_name_names_a_fault(self, rule):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
        assert not rule.name.startswith(("check-", "fix-", "use-", "no-", "add-", "remove-"))

    def test_code_fits_its_folder_and_module(self, rule):
        group, module = rule.__module__.removeprefix("unstuck.rules.").split(".")
        assert re.fullmatch(GROUPS[group] + r"\d{3}", rule.code)
        assert module == rule.name.replace("-", "_")

    def test_has_a_test(self, rule):
        group, module = rule.__module__.split(".")[-2:]
        assert (Path(__file__).parent / group / f"test_{module}.py").is_file()

    def test_documentation_has_every_heading(self, rule):
        sections = rule.sections()
        assert tuple(sections) == ("", *HEADINGS)
        assert all(sections.values())
        assert "\n" not in sections[""]
        assert len(sections[""]) <= 110
        assert sections[""].endswith(".")
        assert "https://" in sections["References"]

    def test_declarations(self, rule):
        assert isinstance(rule.stage, Stage)
        assert rule.needs
        assert rule.code not in rule.explains
        assert len(set(rule.explains)) == len(rule.explains)
        assert all(re.fullmatch(r"[A-Z]\d{3}", code) for code in rule.explains)
        assert set(rule.fixes) <= set(all_remedies())
        assert all(f"`{fix}`" in rule.sections()["Fix"] for fix in rule.fixes)

    def test_says_in_its_evidence_when_there_is_nothing_to_set(self, rule):
        evidence = " ".join(rule.sections()["Evidence"].split())
        assert evidence.endswith("there is no threshold to set.") != bool(rule.thresholds())

    def test_is_short(self, rule):
        assert len(inspect.getsource(importlib.import_module(rule.__module__)).splitlines()) <= 160

    def test_imports_no_torch(self, rule):
        tree = ast.parse(inspect.getsource(importlib.import_module(rule.__module__)))
        names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        allowed = ("unstuck.rules", "unstuck.trace", "unstuck.findings", "unstuck.stats.summary", "numpy")
        outside = [n for n in names if n.split(".")[0] in ("unstuck", "torch") and not n.startswith(allowed)]
        assert outside == []


@pytest.mark.parametrize("path", sorted(Path(unstuck.rules.__path__[0]).rglob("*.py")), ids=lambda p: p.stem)
def test_every_threshold_says_its_unit_and_source(path):
    lines = path.read_text().splitlines()
    comments = {
        token.start[0]
        for token in tokenize.generate_tokens(iter(f"{line}\n" for line in lines).__next__)
        if token.type == tokenize.COMMENT
    }
    for node in ast.parse("\n".join(lines)).body:
        if not isinstance(node, ast.Assign) or not isinstance(target := node.targets[0], ast.Name):
            continue
        value = getattr(importlib.import_module(_module(path)), target.id)
        if target.id.isupper() and isinstance(value, int | float):
            assert {node.lineno, node.lineno - 1} & comments, f"{path.name}:{node.lineno} {target.id} has no comment"


def _module(path):
    relative = path.relative_to(Path(unstuck.rules.__path__[0])).with_suffix("")
    return ".".join(["unstuck.rules", *(part for part in relative.parts if part != "__init__")])


class TestLookup:
    @pytest.mark.parametrize("name", ["L001", "l001", "overconfident-start", "Overconfident-Start"])
    def test_by_code_or_name(self, name):
        assert get_rule(name).code == "L001"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("L01", "no rule is called 'L01'; did you mean L018?"),
            ("dead-unit", "no rule is called 'dead-unit'; did you mean dead-units?"),
            ("qqqqqq", "no rule is called 'qqqqqq'; see `unstuck rule --all`"),
        ],
    )
    def test_unknown(self, name, message):
        with pytest.raises(UnknownRuleError) as error:
            get_rule(name)
        assert str(error.value) == message

    def test_two_modules_may_not_claim_one_code(self, monkeypatch):
        double = type("Double", (Rule,), {"code": "L001", "name": "double"})
        module = importlib.import_module("unstuck.rules.loss.nonfinite_loss")
        double.__module__ = module.__name__
        monkeypatch.setattr(module, "Double", double, raising=False)
        all_rules.cache_clear()
        try:
            with pytest.raises(RuntimeError, match="both claim L001"):
                all_rules()
        finally:
            monkeypatch.undo()
            all_rules.cache_clear()


class TestChoose:
    def test_all(self):
        assert choose() == RULES

    def test_by_prefix(self):
        assert {rule.code[0] for rule in choose(["g"])} == {"G"}
        assert [rule.code for rule in choose(["L001", "N001"])] == ["L001", "N001"]

    def test_ignoring(self):
        assert {rule.code for rule in RULES} - {rule.code for rule in choose(ignore=["A"])} >= {"A001", "A002"}
        assert "L011" not in {rule.code for rule in choose(["L"], ["L011"])}

    @pytest.mark.parametrize("wrong", ["X", "", "L9"])
    def test_prefix_of_nothing(self, wrong):
        with pytest.raises(UnknownRuleError):
            choose([wrong])
        with pytest.raises(UnknownRuleError):
            choose(ignore=[wrong])

    def test_an_extension_adds_to_a_selection_and_changes_nothing_without_one(self):
        assert [rule.code for rule in choose(["L001"], extend_select=["N001"])] == ["L001", "N001"]
        assert choose(extend_select=["N001"]) == RULES
        assert "N001" not in {rule.code for rule in choose(["L001"], ["N"], ["N001"])}
        with pytest.raises(UnknownRuleError):
            choose(extend_select=["ZZZ"])


class TestThresholds:
    def test_an_instance_reads_the_number_that_counts(self):
        rule = all_rules()["U001"]
        assert rule().max_ratio == rule.max_ratio.value == 0.035
        assert rule({"max_ratio": 0.5}).max_ratio == 0.5
        assert rule({"max_ratio": 0.5}).output_max_ratio == rule.output_max_ratio.value
        assert rule().max_ratio == 0.035  # another instance keeps its own

    @each_rule
    def test_each_has_a_unit_and_is_used(self, rule):
        text = Path(inspect.getfile(rule)).read_text(encoding="utf-8")
        for name, threshold in rule.thresholds().items():
            assert threshold.name == name
            assert threshold.unit
            assert f"self.{name}" in text

    def test_what_nobody_knows(self):
        check_thresholds({"U001": {"max_ratio": 1.0}, "A001": {}})
        for wrong, message in [
            ({"U0O1": {}}, "no rule is called 'U0O1'; did you mean U001?"),
            ({"U001": {"max_rate": 1.0}}, "U001 has no threshold 'max_rate'; did you mean max_ratio?"),
            ({"L011": {"limit": 1.0}}, "L011 has no threshold 'limit'; it has none to set"),
            (
                {"A002": {"zzz": 1.0}},
                "A002 has no threshold 'zzz'; it has max_dead, min_dead_units, warn_dead, error_dead",
            ),
        ]:
            with pytest.raises(UnknownRuleError) as caught:
                check_thresholds(wrong)
            assert str(caught.value) == message
