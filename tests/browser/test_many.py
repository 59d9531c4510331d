"""A page of three hundred places: it opens folded, and search answers."""

from __future__ import annotations

import pytest

from report.made import report
from rules.helpers import TraceBuilder, normal
from unstuck.trace import Role

BLOCKS = 100  # of a layer, its weight and an activation function


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    made, before = TraceBuilder(range(4)), ()
    for k in range(BLOCKS):
        layer = made.layer(f"blocks.{k}.fc", weight=normal(0.3, 4, 4), output=normal(1.0, 8, 4), after=before)
        made.record(layer, Role.OUTPUT_GRADIENT, normal(0.1, 8, 4))
        weight = made.trace.sites[layer.parameters[0]]
        made.record(weight, Role.GRADIENT, normal(1e-3, 4, 4))
        made.record(weight, Role.UPDATE, normal(1e-4, 4, 4))
        before = made.activation("tanh", f"blocks.{k}.act", pre=normal(1.0, 8, 4, seed=k), after=layer)
    assert len(made.trace.sites) >= 3 * BLOCKS
    path = tmp_path_factory.mktemp("many") / "page.html"
    path.write_text(report(trace=made.trace).render("html"), encoding="utf-8")
    return path


def test_it_opens_folded(visit, page):
    made = visit(page)
    made.page.locator("#loss canvas").wait_for()
    opened = made.page.locator("details.part[open]").evaluate_all("(all) => all.map((one) => one.id)")
    assert {"activations", "gradients", "dead-units"}.isdisjoint(opened)
    assert made.page.locator(".card canvas").count() == 0
    assert made.said == []


def test_search_finds_one_among_them(visit, page):
    made = visit(page)
    made.page.locator("#search").fill("blocks.17.")
    assert made.page.locator("#found").inner_text() == f"3 of {3 * BLOCKS} panels"
    made.draw_all()  # of all cards, three are left
    assert made.page.locator(".card:visible h3").all_inner_texts() == [
        "blocks.17.act (tanh)",
        "blocks.17.act (tanh)",
        "blocks.17.fc.weight",
    ]
    assert made.page.locator(".card canvas").count() == 3
    assert made.said == []


def test_in_an_opened_section_only_what_is_in_sight_is_drawn(visit, page):
    made = visit(page)
    made.page.locator("#gradients > summary").click()
    made.page.locator("#gradients canvas").first.wait_for()
    made.page.wait_for_timeout(500)
    assert made.page.locator("#gradients canvas").count() < BLOCKS / 2
    made.page.locator("#search").fill("blocks.99.")
    made.page.locator("#gradients .card:visible canvas").wait_for()
    assert made.page.locator("#gradients .card:visible").count() == 1
