"""What a reader sees: text with contrast in both themes, and nothing wider than the window, on a phone neither."""

from __future__ import annotations

import pytest

TEXTS = r"""() => {
  const parse = (colour) => (colour.match(/[\d.]+/g) || []).map(Number); // rgb(r, g, b) or rgba(r, g, b, a)
  const seen = new Map();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim();
    const element = walk.currentNode.parentElement;
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) { continue; }
    if (["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName)) { continue; }
    const layers = [];
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) {
      layers.push(parse(getComputedStyle(at).backgroundColor));
      opacity *= Number(getComputedStyle(at).opacity);
    }
    const ground = layers.find((colour) => colour.length === 3 || colour[3] === 1);
    const clear = layers.slice(0, layers.indexOf(ground)).every((colour) => colour[3] === 0);
    const colour = parse(getComputedStyle(element).color);
    seen.set(`${colour} on ${ground}`, { colour, ground, clear, opacity, text: text.slice(0, 60) });
  }
  return [...seen.values()];
}"""


def luminance(colour: list[float]) -> float:
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in (c / 255 for c in colour[:3])]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    """The ratio of WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("width", [380, 800])
def test_menus_stand_above_their_pictures_and_links_are_all_in_sight(visit, normed, width):
    made = visit(normed.page, width=width)
    made.draw_all()
    boxes = made.value(
        "[...document.querySelectorAll('.vega-embed')].map((one) => ['summary', 'canvas'].map((name) => "
        "one.querySelector(name).getBoundingClientRect())).map(([menu, picture]) => menu.bottom - picture.top)"
    )
    assert len(boxes) >= 8
    assert max(boxes) <= 2.0
    assert made.value("[...document.querySelectorAll('.vega-embed summary')].every((one) => one.ariaLabel)")
    assert (
        made.value("(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.querySelector('nav'))") == 0
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_a_contrast_of_four_and_a_half(visit, naive, scheme):
    made = visit(naive.page, scheme=scheme)
    made.draw_all()
    found = made.value(TEXTS)
    assert len(found) >= 8  # text, muted, links, warning and error on page, panel and the marked line
    assert [one for one in found if not one["clear"] or one["opacity"] != 1] == []
    assert {one["text"]: contrast(one["colour"], one["ground"]) for one in found} == {
        one["text"]: pytest.approx(21, abs=16.5) for one in found
    }


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("naive", 360),
        ("naive", 800),
        ("naive", 1400),
        pytest.param("mended", 360, marks=SLOW),
        pytest.param("normed", 360, marks=SLOW),
    ],
)
def test_nothing_is_wider_than_the_window(visit, request, name, width):
    made = visit(request.getfixturevalue(name).page, width=width)
    made.draw_all()
    assert made.overflow == 0
    cut = made.value(
        "[...document.querySelectorAll('.chart')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
        ".map((one) => [one.dataset.chart || one.getAttribute('aria-label'), one.scrollWidth, one.clientWidth])"
    )
    assert cut == []
