"""`unstuck rule`: the documentation is the rule's own docstring."""

from __future__ import annotations

import json

import pytest

from unstuck.rules.catalogue import all_rules
from unstuck.rules.rule import HEADINGS


@pytest.mark.parametrize("code", all_rules())
def test_a_rule_with_all_its_headings(cli, code):
    said = cli("rule", code)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"# {code} {all_rules()[code].name}\n\n")
    headings = [line.removeprefix("## ") for line in said.out.splitlines() if line.startswith("## ")]
    limits = all_rules()[code].thresholds()
    assert headings == [*HEADINGS, *(["Thresholds"] if limits else [])]
    assert all(f"- `{name}` = {limit.value:g} ({limit.unit})" in said.out for name, limit in limits.items())


@pytest.mark.parametrize("name", ["l001", "overconfident-start", "Overconfident-Start"])
def test_by_name_and_in_any_case(cli, name):
    assert cli("rule", name).out == cli("rule", "L001").out


def test_all_rules_one_a_line_in_order(cli):
    said = cli("rule", "--all")
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines] == [[code, rule.name] for code, rule in all_rules().items()]
    assert all(rule.sections()[""] in line for line, rule in zip(lines, all_rules().values(), strict=True))
    assert len({line.index(rule.sections()[""]) for line, rule in zip(lines, all_rules().values(), strict=True)}) == 1
    assert said.code == 0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("L00", "no rule is called 'L00'; did you mean L010?"),
        ("overconfident", "no rule is called 'overconfident'; did you mean overconfident-start?"),
        ("zzzzzz", "no rule is called 'zzzzzz'; see `unstuck rule --all`"),
        ("", "no rule is called ''; see `unstuck rule --all`"),
    ],
)
def test_a_rule_nobody_knows(cli, code, message):
    assert cli("rule", code).refusal == message


@pytest.mark.parametrize("arguments", [[], ["L001", "--all"]])
def test_neither_or_both(cli, arguments):
    assert cli("rule", *arguments).refusal == (
        "name one rule, or use --all to list them, for example: unstuck rule L001"
    )


@pytest.mark.parametrize("code", ["L001", "T001", "N001"])
def test_for_programs(cli, code):
    rule, said = all_rules()[code], json.loads(cli("rule", code, "--output-format", "json").out)
    assert (said["code"], said["name"], said["severity"]) == (code, rule.name, str(rule.severity))
    assert [said["summary"], *said["sections"].values()] == list(rule.sections().values())
    assert list(said["sections"]) == list(HEADINGS)
    assert {limit["name"]: limit["value"] for limit in said["thresholds"]} == {
        name: limit.value for name, limit in rule.thresholds().items()
    }
    assert tuple(said["fixes"]) == rule.fixes
    assert tuple(said["explains"]) == rule.explains


def test_all_rules_for_programs(cli):
    said = json.loads(cli("rule", "--all", "--output-format", "json").out)
    assert [rule["code"] for rule in said] == list(all_rules())
    assert {rule["code"]: rule["patch"] for rule in said}["T001"] == "insert-zero-grad"
    assert {type(rule["patch"]) for rule in said} == {str, type(None)}


def test_a_format_that_there_is_not(cli):
    assert "'xml' is not one of 'text', 'json'" in cli("rule", "L001", "--output-format", "xml").err
