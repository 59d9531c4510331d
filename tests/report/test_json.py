"""The rendering for programs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rules.helpers import TraceBuilder, normal
from unstuck.findings import Evidence, Place, Severity
from unstuck.fixes.fix import Proof
from unstuck.report import Edit, NotChecked, Report, SourcePatch
from unstuck.report.json import SCHEMA_VERSION, as_dict
from unstuck.trace import Kind, Location, Role, Trace, Watching

from .made import finding, fix, report


def parsed(made: Report) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(made.render("json"), parse_constant=refuse)


def test_a_healthy_run():
    made = parsed(report(exit_code=0, command=("train.py", "--lr"), versions={"torch": "2"}, started="2025-01-01"))
    assert made["schema_version"] == SCHEMA_VERSION == 1
    assert made["ok"] is True
    assert made["run"] == {
        "title": "train.py",
        "command": ["train.py", "--lr"],
        "versions": {"torch": "2"},
        "started": "2025-01-01",
        "steps": 10,
        "sampled_steps": list(range(10)),
        "seconds": 0.0,
        "watching_seconds": 0.0,
        "exit_code": 0,
        "exception": None,
        "signal": None,
        "ending": None,
        "stopped_by_step_limit": False,
        "probe": False,
        "unfinished": None,
        "backward_calls": 10,
        "optimizer_steps": 0,
        "skipped_updates": 0,
        "weights_loaded": False,
        "internal_error": None,
    }
    assert made["watching"] == {
        "seconds": 0.0,
        "training_seconds": 0.0,
        "loading_seconds": 0.0,
        "steps": 0,
        "sampled": 0,
        "guaranteed": 0,
        "guaranteed_seconds": 0.0,
        "unwatched_seconds": 0.0,
        "sample_seconds": 0.0,
        "step_seconds": 0.0,
        "budget": None,
        "ranks": 1,
        "merges": 0,
        "merging_seconds": 0.0,
        "merged_bytes": 0,
        "alone_from": None,
        "share": None,
        "budget_missed": False,
        "warning": None,
    }
    assert made["loss"] == {"at_start": 1.0, "baseline": None, "recent": 1.0, "of_ranks": None}
    assert made["causes"] == made["fixes"] == made["withheld"] == made["not_checked"] == made["sites"] == []


def test_a_run_that_never_trained():
    made = parsed(report(trace=Trace(), steps=0))
    assert made["ok"] is False
    assert made["loss"] == {"at_start": None, "baseline": None, "recent": None, "of_ranks": None}


def test_a_finding_in_full(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("  h = torch.tanh(x)\n")
    found = finding(
        location=Location(str(path), 1, "forward"),
        severity=Severity.ERROR,
        evidence=(Evidence("dead", 3.0, "%"),),
        fixes=("rescale-weights",),
        related=(Place("fc (linear)", None),),
    )
    (cause,) = parsed(report(found))["causes"]
    assert cause["explains"] == cause["also"] == []
    assert cause["root"] == {
        "code": "A001",
        "name": "saturated",
        "severity": "error",
        "site": "tanh",
        "location": {"file": str(path), "line": 1, "function": "forward", "source": "h = torch.tanh(x)"},
        "steps": [0, 9],
        "measured": 0.6,
        "threshold": 0.3,
        "unit": "1",
        "message": "60 % of the outputs are saturated",
        "evidence": [{"name": "dead", "value": 3.0, "unit": "%"}],
        "related": [{"site": "fc (linear)", "location": None}],
        "fixes": ["rescale-weights"],
        "patch": None,
        "no_patch": None,
    }


def test_a_patch_or_why_there_is_none():
    found = [finding(code, "x") for code in ("A001", "L004", "N005")]

    def patches(asked):
        assert asked == made.findings
        return {
            found[1]: SourcePatch("drop-softmax", "drops it", "--- a\n+++ b\n", (Edit((1, 1), (2, 1), ""),)),
            found[2]: SourcePatch(reason="no loop"),
        }

    made = replace(report(*found), source_patches=patches, silenced=(found[1],))
    data = parsed(made)
    by_code = {cause["root"]["code"]: cause["root"] for cause in data["causes"]}
    assert {code: (root["patch"], root["no_patch"]) for code, root in by_code.items()} == {
        "A001": (None, None),
        "L004": ({"name": "drop-softmax", "summary": "drops it", "diff": "--- a\n+++ b\n"}, None),
        "N005": (None, "no loop"),
    }
    assert data["silenced"][0]["patch"] is None


def test_symptoms_stand_under_their_root():
    made = parsed(report(finding(location=None), finding("I002", "unscaled-weights", explains=("A001",))))
    (cause,) = made["causes"]
    assert cause["root"]["code"] == "I002"
    assert [symptom["code"] for symptom in cause["explains"]] == ["A001"]
    assert cause["explains"][0]["location"] is None


def test_other_places_of_a_fault_stand_beside_it():
    (cause,) = parsed(report(*(finding(site=site) for site in "abc")))["causes"]
    assert cause["root"]["site"] == "a"
    assert [other["site"] for other in cause["also"]] == ["b", "c"]


def test_fixes_withheld_and_not_checked():
    made = parsed(
        report(fixes=(fix(),), withheld=("x: why",), not_checked=(NotChecked("A001", "saturated", "a step"),))
    )
    assert made["fixes"] == [
        {
            "name": "rescale-weights",
            "code": "I002",
            "site": "W1, b1",
            "location": {"file": "/home/user/train.py", "line": 3, "function": "<module>", "source": ""},
            "statistic": "pre-activation std",
            "unit": "1",
            "before": 5.4321,
            "after": 1.0,
            "snippet": "W1.data *= 0.184\nb1.data *= 0.184",
            "step": 0,
            "restarted": False,
            "kept": True,
            "why": "",
            "proof": None,
        }
    ]
    assert made["withheld"] == ["x: why"]
    assert made["not_checked"] == [{"code": "A001", "name": "saturated", "needs": "a step"}]


def test_a_fix_that_was_put_back_says_why_and_what_its_trial_showed():
    proof = Proof(200, 0.5, math.inf, gone=False)
    made = fix(step=7, proof=proof, kept=False, why="the loss became worse")
    (entry,) = parsed(report(fixes=(made,)))["fixes"]
    assert (entry["step"], entry["kept"], entry["why"]) == (7, False, "the loss became worse")
    assert entry["proof"] == {"steps": 200, "loss_before": 0.5, "loss_after": None, "gone": False}


class TestSites:
    def test_activations_with_saturation_and_dead_units(self):
        b = TraceBuilder(range(3))
        pre = np.array([[9.0, 0.0], [9.0, 3.0]])
        b.activation("tanh", "act", pre={0: pre, 1: pre, 2: pre * [1, 0]})
        (site,) = parsed(report(trace=b.trace))["sites"]
        assert (site["label"], site["kind"], site["op"]) == ("act (tanh)", "activation", "tanh")
        assert (site["outside_first"], site["outside_median"], site["dead_units"]) == (0.75, 0.75, 1)
        assert site["roles"]["input"]["first_step"] == 0
        assert site["roles"]["input"]["last_step"] == 2

    def test_update_to_data_ratios_of_parameters_alone(self):
        b = TraceBuilder(range(3))
        b.activation("tanh", "act", pre=np.array([[0.5, 1.0]]))
        own = b.parameter("w", None, "", value=np.array([2.0, -2.0]))
        b.record(own, Role.UPDATE, {step: np.array([u, -u]) for step, u in enumerate((0.2, 0.02, 0.01))})
        act, parameter = parsed(report(trace=b.trace))["sites"]
        assert not [key for key in act if key.startswith("update_to_data")]
        names = ("update_to_data_first", "update_to_data_median", "update_to_data_last")
        assert [parameter[name] for name in names] == pytest.approx([0.1, 0.01, 0.005])

    def test_spread_at_the_first_and_last_sampled_step_of_each_role(self):
        b = TraceBuilder(range(2, 5))
        layer = b.layer("fc", output=lambda step: normal(float(step), 50, 4))
        b.record(layer, Role.OUTPUT_GRADIENT, normal(0.5, 50, 4), steps=[3])
        roles = parsed(report(trace=b.trace))["sites"][0]["roles"]
        assert set(roles) == {"output", "gradient at output"}
        assert roles["output"] == {
            "first_step": 2,
            "last_step": 4,
            "std_first": pytest.approx(2),
            "std_last": pytest.approx(4),
        }

    def test_in_the_order_of_execution(self):
        b = TraceBuilder(range(1))
        for order in (2, 0, 1):
            b.site(Kind.NORM, f"norm{order}").order = order
        assert [site["op"] for site in parsed(report(trace=b.trace))["sites"]] == ["norm0", "norm1", "norm2"]

    def test_an_activation_whose_units_changed(self):
        b = TraceBuilder(range(2))
        b.activation("relu", pre={0: np.ones((2, 3)), 1: np.ones((2, 4))})
        assert parsed(report(trace=b.trace))["sites"][0]["dead_units"] is None


class TestNonFinite:
    def test_becomes_null(self):
        b = TraceBuilder(range(2))
        b.loss(value=math.nan, baseline=math.inf)
        b.trace.objective[0] = math.nan
        b.layer("fc", output=np.full((2, 2), np.nan))
        made = parsed(report(finding(evidence=(Evidence("ratio", -math.inf),)), trace=b.trace))
        assert made["loss"]["at_start"] is None
        assert made["loss"]["baseline"] is None
        assert made["sites"][1]["roles"]["output"]["std_first"] is None
        assert made["causes"][0]["root"]["evidence"][0]["value"] is None

    def test_only_in_the_text_not_in_the_dict(self):
        b = TraceBuilder(range(1))
        b.loss(value=math.inf)
        b.trace.objective[0] = math.inf
        assert as_dict(report(trace=b.trace))["loss"]["at_start"] == math.inf


def test_the_text_shows_the_same_numbers():
    b = TraceBuilder(range(10))
    b.loss(value=27.88164, baseline=3.29584)
    b.trace.objective[0] = 27.88164
    made = report(finding(measured=0.6), fixes=(fix(),), trace=b.trace)
    data, text = parsed(made), made.render("text")
    loss, (root,), (mended,) = data["loss"], [c["root"] for c in data["causes"]], data["fixes"]
    assert f"loss {loss['at_start']:.4f} at step 0 (baseline {loss['baseline']:.4f})" in text
    assert f"{loss['recent']:.4f} over the last" in text
    assert root["message"] in text
    assert f"{mended['statistic']} {mended['before']:.4g} → {mended['after']:.4g}" in text
    assert f"{len(data['run']['sampled_steps'])} of {data['run']['steps']} steps sampled" in text


def test_what_watching_cost_is_in_both_renderings():
    b = TraceBuilder(range(10))
    b.trace.facts.watching = Watching(
        seconds=3.0, training_seconds=100.0, steps=5_000, sampled=60, guaranteed=46, guaranteed_seconds=1.9,
        unwatched_seconds=0.05, sample_seconds=0.05, step_seconds=0.02, budget=0.01,
    )  # fmt: skip
    made = report(trace=b.trace, steps=5_000)
    data, text = parsed(made)["watching"], made.render("text")
    assert (data["seconds"], data["share"], data["budget"], data["budget_missed"]) == (3.0, 0.03, 0.01, True)
    assert "\nwatching cost 3.0 s, 3 % of 100 s of training (60 of 5,000 steps sampled); warning: " in text
    assert f"; warning: {data['warning']}\n" in text


def test_strings_of_any_script_survive():
    odd = 'quote " back\\slash \u2028 \x1b[31m é 名'
    assert parsed(report(finding(message=odd), title=odd))["causes"][0]["root"]["message"] == odd


def test_it_ends_in_one_newline():
    assert report().render("json").endswith("}\n")


def test_skipped_updates_are_in_both_renderings():
    b = TraceBuilder(range(10))
    b.trace.facts.skipped_updates = 3
    made = report(trace=b.trace)
    assert parsed(made)["run"]["skipped_updates"] == 3
    assert "3 updates skipped by GradScaler" in made.render("text")


def test_how_a_run_ended():
    made = parsed(report(exit_code=1, exception="KeyError: 'x'"))["run"]
    assert (made["exception"], made["signal"]) == ("KeyError: 'x'", None)
    assert made["ending"] == "ended with exit code 1 (KeyError: 'x')"
    made = parsed(report(exit_code=130, signal="SIGINT"))["run"]
    assert (made["exception"], made["signal"], made["ending"]) == (None, "SIGINT", "was interrupted (Ctrl-C)")
