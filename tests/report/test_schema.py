"""The published layout of JSON reports: every kind of report keeps to it, and it says all there is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn

import unstuck
from rules.helpers import TraceBuilder
from unstuck.findings import Evidence, Place, Severity
from unstuck.fixes.fix import Proof
from unstuck.report import NotChecked, Report, SourcePatch
from unstuck.report.json import SCHEMA_VERSION, schema
from unstuck.trace import Location, Role, Trace, Watching

from .made import finding, fix, report

PUBLISHED = json.loads(schema())


def closed(part: Any) -> Any:
    """The schema with no keys but those it names, so that an unpublished one is seen."""
    if isinstance(part, list):
        return [closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    made = {key: closed(value) for key, value in part.items()}
    return {**made, "additionalProperties": False} if isinstance(part.get("properties"), dict) else made


STRICT = jsonschema.Draft202012Validator(closed(PUBLISHED))


def errors(data: object) -> list[str]:
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in STRICT.iter_errors(data)]


def made_by(checked: Report) -> dict[str, Any]:
    return json.loads(checked.render("json"))


class TestRefused:
    """What must not pass, lest the tests below prove nothing."""

    @pytest.mark.parametrize("key", ["schema_version", "ok", "run", "causes", "sites", "silenced"])
    def test_a_part_that_is_missing(self, key):
        data = made_by(report())
        del data[key]
        assert errors(data) == [f": '{key}' is a required property"]

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("schema_version",), 2),
            (("run", "steps"), -1),
            (("run", "steps"), "10"),
            (("causes", 0, "root", "severity"), "fatal"),
            (("causes", 0, "root", "measured"), None),
            (("causes", 0, "root", "location", "line"), 0),
            (("causes", 0, "root", "code"), "saturated"),
            (("causes", 0, "root", "more"), 1),
            (("causes", 0, "root", "steps"), [1]),
        ],
    )
    def test_a_value_of_another_kind(self, path, value):
        data = part = made_by(report(finding()))
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        assert len(errors(data)) == 1


def everything() -> Report:
    b = TraceBuilder(range(10))
    b.loss(value=27.88, baseline=3.3)
    layer = b.layer("fc", output=torch.randn(4, 3).numpy())
    b.record(layer, Role.OUTPUT_GRADIENT, torch.randn(4, 3).numpy(), steps=[3])
    b.activation("tanh", pre=torch.randn(4, 3).numpy())
    b.record(b.parameter("w", None, "", value=torch.ones(3).numpy()), Role.UPDATE, 0.1 * torch.ones(3).numpy())
    b.trace.facts.watching = Watching(
        seconds=3.0, training_seconds=100.0, steps=5_000, sampled=60, guaranteed=46, guaranteed_seconds=1.9,
        unwatched_seconds=0.05, sample_seconds=0.05, step_seconds=0.02, budget=0.01,
    )  # fmt: skip
    b.trace.facts.internal_error = "KeyError: 'x' (session.py:3)"
    patched = finding("L004", "double-softmax", severity=Severity.ERROR)
    made = report(
        finding("I002", "unscaled-weights", explains=("A001",), fixes=("rescale-weights",)),
        finding("I002", "unscaled-weights", site="W2", location=None),
        finding(evidence=(Evidence("ratio", math.inf),), related=(Place("a", None), Place("b", Location("f.py", 2)))),
        patched,
        finding("N005", "x", severity=Severity.INFO),
        trace=b.trace,
        fixes=(fix(), fix(proof=Proof(200, 0.5, math.nan, gone=False), kept=False, why="no", after=None, step=7)),
        withheld=("x: why",),
        not_checked=(NotChecked("A007", "shrinking-rank", "a norm"),),
        command=("train.py", "--lr"),
        versions={"torch": "2"},
        exit_code=-9,
        stopped=True,
    )
    patches = {
        patched: SourcePatch("n", "s", "d"),
        finding("N005", "x", severity=Severity.INFO): SourcePatch(reason="r"),
    }
    return replace(made, silenced=(finding(), finding(location=None)), source_patches=lambda _: patches)


class TestEveryKindOfReport:
    @pytest.mark.parametrize(
        "made",
        [
            report(),
            report(trace=Trace(), steps=0),
            report(finding(location=None), trace=Trace(), steps=0, not_checked=(NotChecked("A001", "x", "a step"),)),
            report(fixes=(fix(location=None),), withheld=("x: why",)),
            report(finding(), probe=True, steps=1),
            everything(),
        ],
        ids=["healthy", "never trained", "never trained, and why", "mended", "probe", "everything"],
    )
    def test_it_keeps_to_the_schema(self, made):
        assert errors(made_by(made)) == []

    def test_everything_has_all_that_the_schema_names(self):
        data = made_by(everything())
        finding_keys = PUBLISHED["$defs"]["finding"]["properties"].keys()
        assert data["causes"][0]["root"].keys() == finding_keys
        assert data.keys() == PUBLISHED["properties"].keys()
        assert set().union(*(site.keys() for site in data["sites"])) == set(PUBLISHED["$defs"]["site"]["properties"])

    def test_a_real_training_and_a_real_check(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
        model[0].weight.data *= 300
        x, y = torch.randn(64, 10), torch.randint(3, (64,))
        checked = unstuck.check(model, (x, y), nn.functional.cross_entropy)
        assert checked.run.probe
        assert errors(made_by(checked)) == []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with unstuck.watch(fix=True) as run:
            for _ in range(6):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
        report = run.report()
        assert report.trace.sites
        assert errors(made_by(report)) == []


def test_the_schema_is_one_of_draft_2020_12_and_describes_each_of_its_keys():
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["properties"]["schema_version"]["const"] == SCHEMA_VERSION

    def bare(part: object, path: str) -> list[str]:
        if isinstance(part, list):
            return [name for item in part for name in bare(item, path)]
        if not isinstance(part, dict):
            return []
        properties = part.get("properties")
        named = properties if isinstance(properties, dict) else {}
        missing = [f"{path}/{k}" for k, v in named.items() if not v.get("description") and "$ref" not in v]
        return missing + [name for key, value in part.items() for name in bare(value, f"{path}/{key}")]

    assert bare(PUBLISHED, "") == []
