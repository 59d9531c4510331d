"""The numbers that a reader sees are those of the JSON of the same run."""

from __future__ import annotations

import json
import math
from statistics import median

import pytest

from unstuck.rules.catalogue import all_rules

from .conftest import EXAMPLE


@pytest.fixture(scope="module", params=["naive", "mended", "normed"])
def run(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def made(visit, run):
    return visit(run.page)


def shown(value: float, unit: str) -> str:
    return f"{value:.4g}" + ("" if unit == "1" else f" {unit}")


def numbers(made) -> dict:
    return json.loads(made.page.locator("#numbers").text_content())


def rows(made, chart: str, table: str = "rows0") -> list[dict]:
    packed = numbers(made)["charts"][chart]["datasets"][table]
    found = []
    for row in packed["rows"]:
        values = [packed["names"][v] if text else v for v, text in zip(row, packed["texts"], strict=True)]
        found.append(dict(zip(packed["fields"], values, strict=True)))
    return found


def sites(run, kind: str) -> list[dict]:
    return [site for site in run.json["sites"] if site["kind"] == kind]


class TestHead:
    def test_verdict(self, run, made):
        said, roots = made.page.locator("h1").inner_text(), [cause["root"]["code"] for cause in run.json["causes"]]
        assert f"in {run.json['run']['steps']:,} steps of {run.json['run']['title']}" in said
        assert said.startswith(f"{len(roots)} root causes ({', '.join(roots)})" if roots else "No fault found")

    def test_loss_at_start_baseline_and_at_the_end(self, run, made):
        loss, steps = run.json["loss"], min(100, run.json["run"]["steps"])
        said = made.page.locator("header p").first.inner_text()
        start = f"loss {loss['at_start']:.4f} at step 0 (baseline {loss['baseline']:.4f})"
        assert said == f"{start}; {loss['recent']:.4f} over the last {steps} steps"


class TestFindings:
    def test_each_cause_with_its_place_threshold_steps_and_evidence(self, run, made):
        articles = made.page.locator("article")
        assert articles.count() == len(run.json["causes"])
        for number, cause in enumerate(run.json["causes"]):
            said = " ".join(articles.nth(number).inner_text().split())
            for found in (cause["root"], *cause["explains"]):
                first, last = found["steps"]
                steps = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
                measured = f"measured {shown(found['measured'], found['unit'])}"
                assert f"{measured}, threshold {shown(found['threshold'], found['unit'])}, {steps}" in said
                assert f"{found['code']} {found['name']}" in said
                assert " ".join(found["message"].split()) in said
                assert f":{found['location']['line']}" in said
                assert found["location"]["source"].strip() in said
                for evidence in found["evidence"]:
                    assert f"{evidence['name']} {shown(evidence['value'], evidence['unit'])}" in said

    def test_the_steps_below_the_loss(self, run, made):
        expected = []
        for cause in run.json["causes"]:
            known = [cause["root"], *cause["also"]]
            expected.append((cause["root"]["code"], min(f["steps"][0] for f in known)))
            expected += [(f["code"], f["steps"][0]) for f in cause["explains"]]
        tables = numbers(made)["charts"]["loss"]["datasets"]
        bars = [row for name in tables for row in rows(made, "loss", name) if "end" in row]
        assert [(row["text"].split()[1], row["step"]) for row in bars] == expected

    def test_what_was_not_checked(self, run, made):
        made.draw_all()
        said = made.page.locator("#not-checked").inner_text()
        assert f"({len(run.json['not_checked'])} rules)" in said
        for rule in run.json["not_checked"]:
            assert f"{rule['code']} {rule['name']}" in said


class TestCharts:
    def test_loss(self, run, made):
        points = rows(made, "loss")
        size = math.ceil(run.json["run"]["steps"] / len(points))
        assert points[0]["step"] == 0
        assert points[0]["loss"] == points[0]["low"] == points[0]["high"] == run.json["loss"]["at_start"]
        last = [row["loss"] for row in points if row["step"] >= run.json["run"]["steps"] - 100]
        assert size > 1 or sum(last) / len(last) == pytest.approx(run.json["loss"]["recent"])
        labels = [
            row["text"]
            for name in ("rows1", "rows2")
            if name in numbers(made)["charts"]["loss"]["datasets"]
            for row in rows(made, "loss", name)
            if "at" in row
        ]
        assert labels == [f"baseline {run.json['loss']['baseline']:.4g} (uninformative predictions)"]

    def test_saturation(self, run, made):
        shares: dict[str, list[float]] = {}
        for row in rows(made, "saturation"):
            shares.setdefault(row["place"], []).append(row["share"])
        expected = [(s["outside_first"], s["outside_median"]) for s in sites(run, "activation")]
        assert [(found[0], median(found)) for found in shares.values()] == [
            pytest.approx(both, abs=1e-4) for both in expected
        ]

    def test_dead_units(self, run, made):
        notes = [card["note"] for card in numbers(made)["cards"]["dead-units"]["cards"]]
        assert [int(note.split()[0]) for note in notes] == [site["dead_units"] for site in sites(run, "activation")]

    def test_histograms_stand_at_the_sampled_steps(self, run, made):
        for name, kind, role in (("activations", "activation", "input"), ("gradients", "parameter", "gradient")):
            cards = numbers(made)["cards"][name]["cards"]
            known = [site["roles"][role] for site in sites(run, kind) if role in site["roles"]]
            ends = [(card["steps"][0], card["steps"][-1]) for card in cards]
            assert ends == [(one["first_step"], one["last_step"]) for one in known]

    def test_updates(self, run, made):
        first = {row["place"]: row["log10"] for row in reversed(rows(made, "updates"))}
        known = {site["label"]: site for site in sites(run, "parameter")}
        assert first
        for name, log10 in first.items():
            assert log10 == pytest.approx(math.log10(known[name]["update_to_data_first"]), abs=5e-4)  # three decimals

    def test_scale_over_depth(self, run, made):
        layers = [site["roles"] for site in sites(run, "weight layer")]
        role = {"forward": "output", "backward": "gradient at output"}
        for row in rows(made, "depth"):
            known = layers[row["depth"] - 1][role[row["way"]]]
            assert row["step"] == known[f"{row['when']}_step"]
            assert row["log10"] == pytest.approx(math.log10(known[f"std_{row['when']}"]), abs=5e-4)


class TestRepairs:
    def test_before_and_after(self, run, made):
        said = " ".join(made.page.locator("#fixes").inner_text().split())
        for fix in run.json["fixes"]:
            assert f"{fix['code']} {fix['name']}: {fix['site']}" in said
            after = shown(fix["after"], fix["unit"])
            assert f"{fix['statistic']}: {fix['before']:.4g} → {after} (kept, before the first step)" in said
            assert " ".join(fix["snippet"].split()) in said
        assert ("Nothing was mended in this run." in said) == (not run.json["fixes"])

    def test_the_chart_has_the_same(self, mended, visit):
        made = visit(mended.page)
        tables = numbers(made)["charts"]["fixes"]["datasets"]
        found = [{row["when"]: row["value"] for row in rows(made, "fixes", name)} for name in tables]
        assert found == [{"before": fix["before"], "after": fix["after"]} for fix in mended.json["fixes"]]


def test_what_watching_cost(run, made):
    said, facts = made.page.locator("#cost").inner_text(), run.json["run"]
    assert f"({len(facts['sampled_steps'])} of {facts['steps']:,} steps sampled" in said
    assert run.json["watching"]["warning"] is None or " ".join(run.json["watching"]["warning"].split()) in " ".join(
        said.split()
    )


def test_the_lesson_is_told_by_the_page_alone(naive, visit):
    """What is wrong, where, why that is bad, and what to do, of both faults of the example."""
    said = " ".join(visit(naive.page).page.locator("#causes").inner_text().split())
    for code, line in (("I002", "h = torch.tanh(emb @ W1 + b1)"), ("L001", "loss = F.cross_entropy(logits, Ytr[ix])")):
        assert line in said
        for heading in ("Why is this bad", "Fix"):
            assert " ".join(all_rules()[code].sections()[heading].replace("`", "").split()) in said


def test_a_stored_run_gives_the_page_of_its_end(mended, cli, tmp_path, monkeypatch):
    """`unstuck report` after the run, beside the page that the run itself left."""
    monkeypatch.chdir(EXAMPLE.parent)  # where it ran; paths are shown from there
    assert cli("report", mended.folder, "-o", tmp_path / "r.html").code == 0
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == mended.page.read_text(encoding="utf-8")
