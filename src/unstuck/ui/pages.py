"""The pages: the list of runs, a run, two runs side by side. Each is its text and numbers at one moment."""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from unstuck.report import Report, html
from unstuck.report.chartdata import shorten
from unstuck.report.pagedata import as_json, numbers
from unstuck.runs import read_report
from unstuck.trace.folder import Listed, state_of
from unstuck.trace.store import StoredRun, StoreError
from unstuck.ui import compare
from unstuck.ui.library import Library

ENDED = "ended"
MEGABYTE = 1 << 20
EMPTY: dict[str, Any] = {"charts": {}, "cards": {}}
STATES = {
    "running": "Running",
    ENDED: "Ended",
    "broken off": "Broken off: its process was killed or could not write",
    "waiting": "",
    "listed": "",
}


@dataclass(frozen=True)
class Page:
    """A page at one moment: `head` and `main` are HTML, `numbers` what is drawn in it, `steps` those of its runs.

    `state` says whether the page may change: "running", "ended", "broken off", "waiting" for something to read,
    "listed" of the list of runs.
    """

    title: str
    head: str
    main: str
    state: str
    steps: int = 0
    numbers: Any = None
    version: str = ""

    @property
    def said(self) -> str:
        """What the page says of its state."""
        return STATES[self.state] + (f" · {self.steps:,} steps" if self.steps else "")

    def event(self) -> str:
        """Return what an open page needs to become this one, as JSON on one line."""
        fields = ("head", "main", "state", "said", "version")
        return as_json({**{name: getattr(self, name) for name in fields}, "numbers": self.numbers or EMPTY})


def document(page: Page, events: str, *, at: str) -> str:
    """Return a page as a document that follows `events`; `at` names it among the links at its top."""
    links = [("./", "All runs", at == "list"), ("compare", "Compare", at == "compare")]
    items = "".join(f'<a href="{to}"{" aria-current=page" if here else ""}>{text}</a>' for to, text, here in links)
    bar = html.bar() if at == "run" else BAR
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="assets/icon.svg">\n'
        '<link rel="stylesheet" href="assets/page.css">\n<link rel="stylesheet" href="assets/live.css">\n'
        f"<title>{html.plain(shorten(page.title))} · unstuck</title>\n</head>\n"
        f'<body data-events="{escape(events)}" data-version="{page.version}" data-state="{page.state}">\n'
        f'<a class="skip" href="#main">Skip to the contents</a>\n<div class="top"><nav aria-label="Pages">{items}</nav>'
        f'<p><span id="said">{page.said}</span> <span id="connection" role="status"></span></p></div>\n'
        f'{page.head}{bar}<main id="main">\n{page.main}</main>\n'
        "<noscript><p>Charts and news need JavaScript; the findings do not.</p></noscript>\n"
        f'<script type="application/json" id="numbers">{as_json(page.numbers or EMPTY)}</script>\n'
        '<script src="assets/vega.js"></script>\n<script src="assets/page.js"></script>\n'
        '<script src="assets/live.js"></script>\n</body>\n</html>\n'
    )


BAR = (  # the theme alone; the rest is what page.js looks for
    '<div class="bar"><div class="alone"><input type="search" id="search" aria-label="Find places" hidden>'
    '<span id="found" hidden></span><button type="button" id="theme">Theme: system</button></div></div>\n'
)


def head(title: str, text: str, kind: str = "") -> str:
    """Return a head line with a text below it, both escaped."""
    return f'<header>\n<h1 class="{kind}">{html.plain(title)}</h1>\n<p>{html.plain(text)}</p>\n</header>\n'


# -- a run ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[Report, StoredRun]:
    """Read a run as `read_report` does, but show no lines of source files that it does not hold; raises StoreError."""
    report, stored = read_report(path)
    named = [site.location for site in report.trace.sites] + [finding.location for finding in report.findings]
    for place in named:
        if place is not None and place.file not in stored.sources:
            linecache.cache[place.file] = (0, None, [], place.file)
    return report, stored


def run_page(path: Path) -> Page:
    """Return the page of a run; where it cannot be read (yet), one that says why."""
    try:
        report, stored = read(path)
    except StoreError as error:
        return unreadable(path.stem, error, state="waiting")
    content = numbers(report)
    state = state_of(path, stored.info)
    title = report.run.title
    return Page(title, html.head(report), html.sections(report, content), state, report.run.steps, content)


def unreadable(title: str, error: Exception, state: str) -> Page:
    """Return a page that says why there is nothing to see."""
    said = str(error)
    return Page(title, head("Nothing to see", said, "bad"), "", state)


def no_run_page(said: str, library: Library, asked: Mapping[str, str]) -> Page:
    """Return the page of an address that names no run, or only one of two; it offers those that there are."""
    names = [name for name, run in library.listed() if name and not run.trouble]
    main = chooser(names, asked.get("a", names[0]), asked.get("b", names[0])) if names else ""
    return Page("No such run", head("No such run", said, "bad"), main, ENDED)


# -- the list ---------------------------------------------------------------------------------------------------------


def list_page(library: Library) -> Page:
    """Return the list of runs, the latest first, and what chooses two of them to compare."""
    runs = library.listed()
    count = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}" if runs else "No runs"
    main = "".join(_table(runs)) if runs else f'<section class="part" id="runs"><p>{NONE}</p></section>\n'
    names = [name for name, run in runs if name and not run.trouble]
    if len(names) > 1:
        main += chooser(names, names[1], names[0])
    return Page("Runs", head(count, f"below {library.folder}"), main, "listed")


NONE = "No run is stored here. Watch one: <code>unstuck run train.py</code>; it appears on this page as it begins."


def _table(runs: list[tuple[str, Listed]]) -> Iterator[str]:
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("Run", "Script", "Begun", "Steps", "Size", "Verdict"))
    yield f'<section class="part" id="runs"><table class="runs"><thead><tr>{heads}</tr></thead><tbody>\n'
    for name, run in runs:
        address = escape(compare.address(name))
        shown = html.user(name or run.name, 200)
        shown = f'<a href="{address}">{shown}</a>' if name and not run.trouble else shown
        begun = f"{run.begun:%Y-%m-%d %H:%M}" if run.begun else "?"
        running = '<span class="running">running</span> ' if run.running else ""
        verdict = running + ("" if run.running else html.user(run.trouble or run.verdict, 400))
        cells = (
            ("Script", html.user(run.script or "?", 100)),
            ("Begun", begun),
            ("Steps", f"{run.steps:,}"),
            ("Size", f"{run.size / MEGABYTE:.1f} MB"),
            ("Verdict", verdict),
        )
        rest = "".join(f'<td data-of="{of}">{text}</td>' for of, text in cells)
        yield f'<tr><th scope="row" data-of="Run">{shown}</th>{rest}</tr>\n'
    yield "</tbody></table></section>\n"


def chooser(names: list[str], first: str, second: str) -> str:
    """Return what chooses two runs by their names."""
    return (
        '<section class="part" id="chooser"><form action="compare" method="get">'
        f"{_select('a', 'Compare', names, first)} {_select('b', 'with', names, second)} "
        "<button>Compare</button></form></section>\n"
    )


def _select(key: str, label: str, names: list[str], chosen: str) -> str:
    options = "".join(
        f'<option value="{html.plain(name)}"{" selected" if name == chosen else ""}>{html.plain(name, 80)}</option>'
        for name in names
    )
    return f'<label>{label} <select name="{key}">{options}</select></label>'


# -- two runs ---------------------------------------------------------------------------------------------------------


def compare_page(a: str, b: str, library: Library) -> Page:
    """Return two runs side by side: losses in one chart, vitals in one table, root causes in two columns."""
    names = library.paths()
    pair: list[compare.Side] = []
    states = []
    for letter, name in (("A", a), ("B", b)):
        try:
            if name not in names:
                raise StoreError(f"there is no stored run {name!r} in {library.folder}")
            report, stored = read(names[name])
        except StoreError as error:
            return Page("Compare", head("Nothing to compare", str(error), "bad"), chooser(list(names), a, b), ENDED)
        state = state_of(names[name], stored.info)
        states.append(state)
        pair.append(compare.side(letter, name, report, state))  # with its lines of code: the other may change them
    content = compare.numbers(pair)
    text = " and ".join(f"{one.letter}: {one.name}" for one in pair)
    main = "".join((*compare.sections(pair, content), chooser(list(names)[::-1], a, b)))
    state = next((one for one in ("running", "broken off") if one in states), ENDED)
    return Page("Compare", head("Two runs side by side", text), main, state, numbers=content)
