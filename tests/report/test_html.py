"""The page: what it says, in which order, and that nothing of the user's program becomes a part of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from unstuck.findings import Evidence, Place
from unstuck.report import NotChecked, Report, html
from unstuck.report import chartdata as data
from unstuck.report.html import compact, excerpt, plain
from unstuck.report.pagedata import as_json
from unstuck.trace import Location, Watching

from .drawn import silent, trace
from .made import finding, fix, report
from .test_charts import contrast

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&--><!--\u202e\u2028😀"


class Page(HTMLParser):
    """Elements in order, their ids, the text, and the contents of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.said = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, text: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.scripts and not self.scripts[-1][1]:
            self.scripts[-1] = (self.scripts[-1][0], text)
        else:
            self.said += text

    @property
    def numbers(self) -> Any:
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "numbers"))


@pytest.fixture(scope="module")
def full() -> Report:
    needs = (NotChecked("N003", "stale-running-stats", "batch normalisation"),)
    return report(finding(), trace=trace(), fixes=(fix(),), not_checked=needs, withheld=("one thing",))


@pytest.fixture(scope="module")
def page(full: Report) -> str:
    return full.render("html")


class TestRefused:
    def test_without_the_extra(self, full, monkeypatch):
        monkeypatch.setitem(sys.modules, "vl_convert", None)
        with pytest.raises(ImportError, match=r'pip install "unstuck\[html\]"'):
            full.render("html")


class TestPage:
    def test_sections_in_their_order(self, page):
        order = ["causes", "loss", "activations", "saturation", "dead-units", "gradients", "updates", "depth"]
        order += ["batchnorm", "fixes", "not-checked", "cost", "numbers"]
        assert [found for found in Page(page).ids if found in order] == order

    def test_it_says_what_the_report_says(self, page):
        said = Page(page).said
        for text in (
            "1 root cause (A001) in 10 steps of train.py",
            "60 % of the outputs are saturated",
            "5.432 → 1",
            "W1.data *= 0.184",
            "Not mended: one thing",
            "needs batch normalisation: N003 stale-running-stats",
            "10 of 10 steps were sampled",
        ):
            assert text in said

    def test_a_fix_that_nothing_was_measured_after(self):
        said = Page(report(fixes=(fix(step=40, after=None),)).render("html")).said
        assert "5.432 → not measured again (kept, after step 40)" in said

    def test_what_watching_cost(self):
        made = report(trace=trace())
        made.trace.facts.watching = Watching(seconds=1.0, training_seconds=10.0, steps=10, sampled=5)
        assert "10 % of 10.0 s of training" in Page(made.render("html")).said

    def test_it_loads_nothing_and_runs_nothing_but_its_two_scripts(self, page):
        found = Page(page)
        assert [tag for tag, attrs in found.elements if {"src", "data-src"} & attrs.keys()] == []
        assert [attrs for tag, attrs in found.elements if tag == "link"] == []
        policy = next(str(a["content"]) for t, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
        code = [text for attrs, text in found.scripts if "type" not in attrs]
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
        assert len(hashes) == 2
        assert re.search(r"script-src ([^;]*);", policy)[1].split() == [f"'sha256-{one}'" for one in hashes]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe-eval" not in policy

    def test_every_control_has_a_name_and_every_chart_a_text(self, page):
        found = Page(page).elements
        labels = {attrs.get("for") for tag, attrs in found if tag == "label"}
        assert all(a.get("aria-label") or a.get("id") in labels for t, a in found if t == "input")
        assert all(a["role"] == "img" and a["aria-label"] for _, a in found if "data-chart" in a)
        assert all(attrs.get("aria-label") for _, attrs in found if "tabindex" in attrs)
        assert ("html", {"lang": "en"}) in found

    def test_numbers_are_those_of_the_trace(self, full, page):
        numbers = Page(page).numbers
        table = numbers["charts"]["loss"]["datasets"]["rows0"]
        rows = [dict(zip(table["fields"], row, strict=True)) for row in table["rows"]]
        assert {row["step"]: row["loss"] for row in rows} == full.trace.objective
        card = numbers["cards"]["dead-units"]["cards"][0]
        assert card["note"] == "1 of 6 units saturated at every step shown"
        assert card["cells"][0] == "z" * 10
        assert "z" not in card["cells"][1]
        assert set(numbers["cards"]) == {"activations", "dead-units", "gradients"}

    def test_a_run_of_which_nothing_is_known(self):
        found = Page(report(trace=silent()).render("html"))
        assert found.numbers == {"charts": {}, "cards": {}}
        assert "No activation function was seen." in found.said

    def test_what_is_beyond_the_most_places_is_said(self, monkeypatch):
        made = report(trace=trace())
        assert "places, in the order of execution" not in Page(made.render("html")).said
        monkeypatch.setattr(data, "MAX_SITES", 2)
        said = Page(made.render("html")).said
        assert said.count("The first 2 of 3 places, in the order of execution, are shown.") == 6

    @pytest.mark.parametrize("name", html.CAPTIONS)
    def test_each_chart_says_what_healthy_looks_like(self, name):
        assert re.search(r"[Hh]ealthy|is usual", html.CAPTIONS[name])

    def test_of_many_places_only_the_loss_is_open(self):
        made = report(trace=trace())
        opened = re.findall(r'<details class="part" id="([a-z-]+)" open>', made.render("html"))
        assert "gradients" in opened
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(html, "MOST_OPEN", 3)
            opened = re.findall(r'<details class="part" id="([a-z-]+)" open>', made.render("html"))
        assert [name for name in opened if name in html.NOTHING] == ["loss"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> str:
    source = tmp_path_factory.mktemp("hostile") / "<script>alert(3)<.py"
    source.write_text(f"# {HOSTILE}\nx = 1 # {HOSTILE}\n# {HOSTILE * 200}\n", encoding="utf-8")
    place = Location(str(source), 2)
    made = finding(
        site=HOSTILE,
        message=HOSTILE * 200,
        location=place,
        evidence=(Evidence(HOSTILE, 1.0, HOSTILE),),
        related=(Place(HOSTILE, place),),
    )
    mended = fix(site=HOSTILE, snippet=HOSTILE, statistic=HOSTILE, location=place)
    put_back = fix(site=HOSTILE, kept=False, why=HOSTILE)
    run = {"title": HOSTILE, "versions": {HOSTILE: HOSTILE}, "started": HOSTILE}
    numbers = trace(name=f"{HOSTILE}\ud800\0")
    numbers.facts.internal_error = HOSTILE
    needs = (NotChecked("N003", "stale", HOSTILE),)
    again = finding(site=HOSTILE, location=None, message="other")
    return report(
        made,
        again,
        trace=numbers,
        fixes=(mended, put_back),
        not_checked=needs,
        withheld=(HOSTILE,),
        **run,
    ).render("html")


class TestMended:
    """What the page says of repairs."""

    def test_what_was_not_proven_is_said_as_in_the_text(self):
        needs = (NotChecked("I002", "unscaled-weights", "a step"),)
        made = report(fixes=(fix(restarted=True),), not_checked=needs)
        said = (
            "ot proven on trial: compare the loss with a run without; training began again: parameters put back to the "
            "start, optimizer state cleared; not checked since: I002 unscaled-weights"
        )
        assert f"N{said}" in Page(made.render("html")).said
        assert f"n{said}" in " ".join(made.render("text", width=400).split())

    @pytest.mark.parametrize("kept", [False, None])
    def test_of_what_was_put_back_nothing_is(self, kept):
        fixes = () if kept is None else (fix(kept=kept, why="no better"),)
        assert "ot proven" not in Page(report(fixes=fixes).render("html")).said

    def test_where_a_remedy_is_known_it_says_how_to_have_it(self):
        said = Page(report(finding(fixes=("rescale-weights",))).render("html")).said
        assert "unstuck run --unsafe-fixes on the same script would try: rescale-weights" in said
        said = Page(report(finding()).render("html")).said
        assert "Nothing was mended in this run." in said
        assert "would try" not in said


class TestHostile:
    def test_the_page_has_the_elements_that_it_has_without(self, hostile, page):
        allowed = {tag for tag, _ in Page(page).elements}
        found = Page(hostile)
        assert {tag for tag, _ in found.elements} <= allowed
        assert [name for _, attrs in found.elements for name in attrs if name.startswith("on")] == []
        assert len(found.scripts) == 3

    def test_strings_stay_whole_in_text_and_numbers(self, hostile):
        found = Page(hostile)
        assert HOSTILE in found.said
        assert any("<script>alert(1)" in card["name"] for card in found.numbers["cards"]["activations"]["cards"])

    def test_it_can_be_written(self, hostile, tmp_path):
        (tmp_path / "page.html").write_text(hostile, encoding="utf-8")
        assert "\0" not in hostile

    def test_json_in_a_script_has_no_sign_that_ends_it(self):
        made = as_json({"a": HOSTILE, "b": float("nan"), "c": [float("inf"), {"d": 1.5}]})
        assert not set("<>&\u2028") & set(made)
        assert json.loads(made) == {"a": HOSTILE, "b": None, "c": [None, {"d": 1.5}]}

    def test_what_is_too_long_is_cut(self):
        assert plain("<" * 3_000) == "&lt;" * 2_000 + "…"


class TestExcerpt:
    def test_no_place_no_file_and_a_line_beyond_its_end(self, tmp_path):
        path = tmp_path / "a.py"
        path.write_text("a = 1\n")
        assert [excerpt(None), excerpt(Location(str(tmp_path / "none.py"), 1)), excerpt(Location(str(path), 2))] == [
            ""
        ] * 3

    def test_the_line_is_marked_among_its_neighbours(self, tmp_path):
        path = tmp_path / "a.py"
        path.write_text("".join(f"line{n} < 1\n" for n in range(1, 12)))
        said = Page(excerpt(Location(str(path), 5))).said
        assert re.findall(r"(▶)? +(\d+) line", said) == [("▶" if n == 5 else "", str(n)) for n in range(2, 9)]


class TestNotebook:
    def test_a_fragment_without_scripts(self, full):
        text = full._repr_html_()
        tags = {tag for tag, _ in Page(text).elements}
        assert "script" not in tags
        assert "img" in tags
        assert "60 % of the outputs are saturated" in text

    def test_without_the_extra_there_is_no_picture(self, full, monkeypatch):
        monkeypatch.setitem(sys.modules, "vl_convert", None)
        assert "img" not in {tag for tag, _ in Page(compact(full)).elements}

    def test_front_ends_may_ask_for_all_forms(self, full):
        made = full._repr_mimebundle_(include=None, exclude=None)
        assert made["text/plain"] == str(full)
        assert made["text/html"] == full._repr_html_()

    def test_hostile_strings(self):
        text = report(finding(site=HOSTILE, message=HOSTILE), title=HOSTILE)._repr_html_()
        assert "<script" not in text
        assert "<img src=x" not in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_both_pages(page, scheme):
    light, dark = re.findall(r":root \{([^}]*)\}", page)[:2]
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", light if scheme == "light" else dark))
    for text in ("text", "muted", "link", "error", "warning", "info", "good"):
        for ground in ("page", "panel"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["text"], colours["mark"]) >= 4.5
    assert contrast(colours["line"], colours["page"]) >= 3.0
    assert contrast(colours["focus"], colours["page"]) >= 3.0


def test_a_fix_after_which_training_began_again_says_so():
    assert "kept, after step 41, training began again" in report(fixes=(fix(step=41, restarted=True),)).render("html")
    assert "began again" not in report(fixes=(fix(step=41),)).render("html")
