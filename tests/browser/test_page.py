"""The page in a browser: it opens without a network, and its controls do what they say."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

CONTROLS = "a[href], button, input, summary, [tabindex='0']"
PICTURE = "(chart) => chart.querySelector('canvas').toDataURL()"
SECTIONS = ["loss", "activations", "saturation", "dead-units", "gradients", "updates", "depth", "batchnorm", "fixes"]


def picture(made, selector: str) -> str:
    return made.page.locator(selector).first.evaluate(PICTURE)


class TestOpening:
    @pytest.mark.parametrize(
        ("name", "missing", "scheme"),
        [
            ("naive", {"batchnorm", "fixes"}, "light"),
            ("naive", {"batchnorm", "fixes"}, "dark"),
            ("mended", {"batchnorm"}, "light"),
            ("normed", {"fixes"}, "dark"),
        ],
    )
    def test_all_charts_are_drawn_and_nothing_is_said_or_asked_for(self, visit, request, name, missing, scheme):
        drawn = set(SECTIONS) - missing
        run = request.getfixturevalue(name)
        made = visit(run.page, scheme=scheme)
        assert made.draw_all() >= len(drawn)
        assert {one for one in SECTIONS if made.page.locator(f"#{one} canvas").count()} == drawn
        assert made.said == []
        assert made.asked == [run.page.as_uri()]

    def test_charts_wait_until_they_are_in_sight(self, visit, naive):
        made = visit(naive.page, height=500)
        assert made.page.locator("#depth canvas").count() == 0
        made.page.locator("#depth .chart").scroll_into_view_if_needed()
        made.page.locator("#depth canvas").wait_for()


class TestSlider:
    def test_it_moves_the_histograms_to_another_step(self, visit, naive):
        made = visit(naive.page)
        made.draw_all()
        section = made.page.locator("#activations")
        before, note = picture(made, "#activations .chart"), section.locator(".note")
        first = f"{naive.json['sites'][section_site(naive)]['outside_first']:.1%} saturated"
        assert (section.locator("output").inner_text(), note.inner_text()) == ("step 0", first)
        section.locator("input[type=range]").focus()
        made.page.keyboard.press("End")
        last = max(naive.json["run"]["sampled_steps"])
        assert section.locator("output").inner_text() == f"step {last:,}"
        assert section.locator("input").get_attribute("aria-valuetext") == f"step {last}"
        assert note.inner_text() != first
        made.page.wait_for_timeout(100)
        assert picture(made, "#activations .chart") != before
        made.page.keyboard.press("Home")
        made.page.wait_for_timeout(100)
        assert picture(made, "#activations .chart") == before

    def test_it_leaves_the_other_slider_alone(self, visit, naive):
        made = visit(naive.page)
        made.page.locator("#activations input").focus()
        made.page.keyboard.press("ArrowRight")
        assert made.page.locator("#activations output").inner_text() == "step 1"
        assert made.page.locator("#gradients output").inner_text() == "step 0"

    def test_it_plays_to_the_end_and_stops(self, visit, mended):
        made = visit(mended.page)
        button, slider = made.page.locator("#activations button"), made.page.locator("#activations input")
        last = int(slider.get_attribute("max"))
        slider.fill(str(last - 2))
        button.click()
        assert button.inner_text() == "⏸ stop"
        expect(button).to_have_text("▶ play")
        assert slider.input_value() == str(last)


def section_site(run) -> int:
    """The position of the one activation function among a run's places."""
    (found,) = (k for k, site in enumerate(run.json["sites"]) if site["kind"] == "activation")
    return found


class TestSearch:
    def test_it_leaves_what_has_the_text_in_its_name(self, visit, normed):
        made = visit(normed.page)
        made.draw_all()
        cards = made.page.locator(".card")
        every, map_before = cards.count(), picture(made, "#saturation .chart")
        made.page.locator("#search").fill("2.1.W")  # case does not matter
        assert made.page.locator(".card:visible h3").all_inner_texts() == ["2.1.weight"]
        assert made.page.locator("#found").inner_text() == f"1 of {every} panels"
        made.page.wait_for_timeout(100)
        assert picture(made, "#saturation .chart") != map_before  # and also the charts of many places
        made.page.locator("#search").fill("")
        assert made.page.locator("#found").inner_text() == ""
        assert made.page.locator(".card:visible").count() == every

    def test_nothing_has_it(self, visit, normed):
        made = visit(normed.page)
        made.draw_all()
        made.page.locator("#search").fill("(.*[")
        assert made.page.locator(".card:visible").count() == 0
        assert made.page.locator("#found").inner_text().startswith("0 of ")
        assert made.said == []


LIGHT, DARK = "rgb(255, 255, 255)", "rgb(21, 24, 29)"
GROUND = "getComputedStyle(document.body).backgroundColor"


class TestTheme:
    def test_that_of_the_system_until_another_is_chosen(self, visit, naive):
        made = visit(naive.page, scheme="dark")
        assert made.value(GROUND) == DARK
        made.page.emulate_media(color_scheme="light")
        assert made.value(GROUND) == LIGHT

    def test_the_button_goes_round_and_the_charts_follow(self, visit, naive):
        made = visit(naive.page)
        made.draw_all()
        button, seen = made.page.locator("#theme"), []
        before = picture(made, "#depth .chart")
        for _ in range(3):
            button.click()
            made.page.wait_for_timeout(400)
            seen.append((button.inner_text(), made.value(GROUND), picture(made, "#depth .chart") == before))
        assert seen == [("Theme: light", LIGHT, True), ("Theme: dark", DARK, False), ("Theme: system", LIGHT, True)]
        assert made.said == []

    def test_the_choice_outlives_the_page(self, visit, naive):
        made = visit(naive.page, scheme="dark")
        made.page.locator("#theme").click()
        made.page.reload()
        assert (made.page.locator("#theme").inner_text(), made.value(GROUND)) == ("Theme: light", LIGHT)

    def test_a_browser_that_keeps_nothing(self, visit, naive):
        made = visit(naive.page)
        refuse = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } })"
        made.page.add_init_script(refuse)
        made.page.reload()
        for _ in range(2):
            made.page.locator("#theme").click()
        assert made.value(GROUND) == DARK
        assert made.said == []


class TestKeyboard:
    def test_it_reaches_every_control_and_shows_where_it_is(self, visit, naive):
        made = visit(naive.page)
        made.draw_all()
        made.value("scrollTo(0, 0)")
        made.value(
            f'window.wanted = [...document.querySelectorAll("{CONTROLS}")].filter((one) => one.checkVisibility())'
        )
        reached, rings = set(), set()
        for _ in range(made.value("wanted.length") + 5):
            made.page.keyboard.press("Tab")
            at = made.value("wanted.indexOf(document.activeElement)")
            if at >= 0:
                reached.add(at)
                rings.add(made.value("getComputedStyle(document.activeElement).outlineStyle"))
        missed = made.value(
            "(reached) => wanted.filter((_, k) => !reached.includes(k)).map((one) => one.outerHTML.slice(0, 80))",
            sorted(reached),
        )
        assert missed == []
        assert rings == {"solid"}

    def test_the_first_stop_leads_past_the_links(self, visit, naive):
        made = visit(naive.page)
        made.page.keyboard.press("Tab")
        assert made.value("document.activeElement.className") == "skip"
        made.page.keyboard.press("Enter")
        assert made.value("location.hash") == "#causes"

    def test_sections_fold_and_a_link_unfolds_them(self, visit, naive):
        made = visit(naive.page)
        made.page.locator("#depth > summary").focus()
        made.page.keyboard.press("Enter")
        assert not made.page.locator("#depth .chart").is_visible()
        link = made.page.locator("nav a[href='#depth']")
        link.focus()
        made.page.keyboard.press("Enter")
        made.page.locator("#depth .chart").wait_for()


def test_without_javascript_the_findings_are_there(browser, naive):
    context = browser.new_context(java_script_enabled=False, offline=True)
    try:
        page = context.new_page()
        page.goto(naive.page.as_uri())
        assert page.locator("article").count() == 2
        assert "The charts need JavaScript; the findings do not." in page.locator("body").inner_text()
    finally:
        context.close()
