"""Strings that come from the user's program do no harm wherever they stand, and are shown as the text that they are."""

from __future__ import annotations

import pytest

from report.drawn import trace
from report.made import finding, fix, report
from unstuck.findings import Evidence, Place
from unstuck.report import NotChecked
from unstuck.trace import Location

from .conftest import saved

HARM = {
    "elements": "<img src=x onerror=\"hurt('img')\"><svg onload=hurt('svg')></script><script>hurt('script')</script>",
    "comment": "<!--<script>hurt('comment')</script>--!><script>",
    "quotes": "\"' onmouseover=\"hurt('quote')\" x='`${hurt('backtick')}`');hurt('expression');('\\u003cscript>",
    "address": "javascript:hurt('address')//https://example.org/?a=<b>",
    "separators": "a\u2028b\u2029c\0d\ud800e\x1b[31m \t\n ",
    "right to left": "\u202ereversed\u2066 \u05d0\u05d1 \u0627\u0644 👩‍👩‍👧‍👦🏳️‍🌈 Z̷͉̈́a̸l̵g̶o̶",
    "long": "W" * 10_000,
    "many words": "word <b> " * 1_200,
}
FLAG = "window.harm = []; window.hurt = (how) => window.harm.push(how); window.alert = window.hurt;"


def written(text: str, path):
    """The page of a run in which the text stands wherever a program's own can."""
    source = path / "train.py"
    source.write_text(f"# {text}\nx = 1 # {text}\n# {text}\n", encoding="utf-8", errors="replace")
    place = Location(str(source), 2, text)
    main = finding(
        site=text, message=text, location=place, evidence=(Evidence(text, 1.0, text),), related=(Place(text, place),)
    )
    nowhere = finding("U001", "too-large", site=text, location=None, message=f"2 {text} 3", fixes=("x",))
    numbers = trace(name=text)
    numbers.facts.internal_error = text
    made = report(
        main,
        nowhere,
        trace=numbers,
        fixes=(fix(site=text, snippet=text, statistic=text, location=place), fix(site=text, kept=False, why=text)),
        not_checked=(NotChecked("N003", "stale", text),),
        withheld=(text,),
        title=text,
        versions={text: text},
        started=text,
    )
    (path / "page.html").write_text(made.render("html"), encoding="utf-8")
    return path / "page.html"


@pytest.fixture
def opened(visit, browser):
    def go(page, **options):
        made = visit("about:blank", **options)
        made.asked.clear()
        made.page.add_init_script(FLAG)
        made.page.on("dialog", lambda dialog: dialog.dismiss())
        made.page.goto(page.as_uri())
        return made

    return go


def unharmed(made, page) -> None:
    made.page.mouse.move(100, 100)
    made.page.wait_for_timeout(100)
    assert made.value("window.harm") == []
    assert made.said == []
    assert made.asked == [page.as_uri()]
    assert made.value("document.querySelectorAll('script').length") == 3
    assert made.value("document.querySelectorAll('img, iframe, object, embed, svg [onload], b').length") == 0
    assert made.value("[...document.querySelectorAll('a')].every((a) => !/javascript/i.test(a.getAttribute('href')))")
    assert made.overflow == 0


FIRST = ("elements", "right to left")  # of the kinds; the others take as long again each


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in FIRST else pytest.mark.slow) for k in HARM])
def test_of_every_kind(opened, tmp_path, kind):
    page = written(HARM[kind], tmp_path)
    made = opened(page, width=360)
    made.draw_all()
    unharmed(made, page)
    shown = made.page.locator("article p bdi").first.text_content()
    expected = HARM[kind].replace("\0", "\ufffd").replace("\ud800", "?")
    assert shown == (expected if len(expected) <= 2_000 else f"{expected[:2_000]}…")


def test_what_turns_the_direction_turns_nothing_else(opened, tmp_path):
    made = opened(written(HARM["right to left"], tmp_path))
    made.draw_all()
    loose = made.value(
        """() => {
          const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          const found = [];
          while (walk.nextNode()) {
            const element = walk.currentNode.parentElement;
            const own = element.closest("bdi, script, .row, [dir=auto]");
            const turns = walk.currentNode.textContent.includes("\\u202e");
            if (turns && !own) { found.push(element.outerHTML.slice(0, 200)); }
          }
          return found;
        }"""
    )
    assert loose == []


@pytest.mark.slow
def test_a_program_that_has_them_all(opened, tmp_path):
    """Names of the script, of modules and of classes, the text of its exception, and its lines."""
    script = tmp_path / "<img src=x onerror=hurt(1)>'\"`\u202e😀.py"
    script.write_text(PROGRAM, encoding="utf-8")
    run = saved(tmp_path / "saved", script)
    made = opened(run.page, width=360)
    made.draw_all()
    unharmed(made, run.page)
    said = made.page.locator("body").text_content()
    for text in (script.name, "</script><script>hurt(2)</script>", "print('<b>hurt(3)</b>')"):
        assert text in said
    assert run.json["run"]["exit_code"] == 1


PROGRAM = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module("</script><script>hurt(2)</script>", nn.Linear(30, 200))
        self.add_module("\u202e😀" + "long" * 2_500, nn.Linear(200, 27))

    def forward(self, x):
        first, last = self._modules.values()
        x = torch.tanh(20 * first(x)); print('<b>hurt(3)</b>') if x is None else None
        return last(x)

Odd.__name__ = Odd.__qualname__ = "<img src=x onerror=hurt(4)>"
torch.manual_seed(0)
model = Odd()
model._modules["\u202e😀" + "long" * 2_500].weight.data *= 100
for step in range(12):
    loss = nn.functional.cross_entropy(model(torch.randn(32, 30)), torch.randint(0, 27, (32,)))
    model.zero_grad()
    loss.backward()
    for p in model.parameters():
        p.data -= 0.01 * p.grad
raise ValueError("</script><script>hurt(5)</script>" + "x" * 10_000)
"""
