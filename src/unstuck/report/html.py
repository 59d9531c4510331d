"""The page: one self-contained file that needs no network; the charts' extra `html` gives it Vega's JavaScript.

Whatever comes from the user's program is escaped, in the page and in its JSON; a Content Security Policy allows the
two scripts of the page by their hashes and no others, no code from strings, and no connection.
"""

from __future__ import annotations

import base64
import hashlib
import linecache
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from unstuck.findings import Finding
from unstuck.report import chartdata as data
from unstuck.report.charts import NAMES, SLIDERS
from unstuck.report.lesson import lesson
from unstuck.report.pagedata import as_json, numbers
from unstuck.report.report import AppliedFix, Report, recent_loss, shared, starting_loss
from unstuck.report.style import altair
from unstuck.report.text import MARKS, after_of, place, verdict
from unstuck.report.unproven import unproven
from unstuck.report.watching import budget_warning, cost_line
from unstuck.rules.causes import Cause
from unstuck.trace import Location

AROUND = 3  # lines of code shown above and below the one in question
MOST_OPEN = 60  # places; a page of more begins with its charts folded
LONGEST = 2_000  # characters of one text of the user's program
MOST_ALSO = 30  # further places of one fault that are named

CAPTIONS = {
    "loss": "The first ten steps have a point each; later points are the mean of the steps up to the next one, the "
    "band their lowest and highest. The dashed line is the loss of predictions that know nothing: whatever is above it "
    "at the start, the initialisation put there. The bars below are the steps that each root cause, and what it "
    "explains, was measured at. A healthy loss starts at that line and falls.",
    "activations": "What enters each activation function. The shaded part is the responsive interval, where its "
    "derivative is at least 6 % of its maximum. What lies outside is saturated (orange): almost no gradient comes back "
    "through it; or, of a rectifier such as ReLU, switched off (grey): about half is usual. The dashed outline is the "
    "first step; the outermost 0.5 % of the values at each end may lie beyond the picture. A healthy histogram lies "
    "within the interval, or about its end if that is a rectifier's, and keeps its width.",
    "saturation": "The share of each activation function's elements that is outside its responsive interval. Healthy "
    "is dark, at most a few percent. Rectifiers (ReLU and its kin) have a blue scale of their own: switched off, about "
    "half is usual.",
    "dead-units": "A row is a unit, a column a sampled step (not a sample of one batch: a cell sums up the whole batch "
    "of its step): the lighter, the more of the unit's elements were saturated or switched off. White are cells of "
    "which all were; a white row is a unit that learns nothing. A healthy map has no white row.",
    "gradients": "The size of each parameter's gradients, as decimal logarithms. The dashed outline is the first step. "
    "Healthy are sizes of the same order in all layers, none of them at 0 alone.",
    "updates": "log10 of rms(update) / rms(value) of each weight matrix (below a third of the usual initial scale, "
    "that third stands for the value). About 1e-3 is usual; far above, training is rough, far below, it is slow.",
    "depth": "log10 of the standard deviation of each layer's output (forward) and of the gradient there (backward), "
    "at the first and at the last sampled step; ✗ at the bottom: zero, not finite or not measured. Healthy lines are "
    "level, as an initialisation aims at: a depth slope of about 0 both ways.",
    "batchnorm": "How far each batch's statistics are from the running ones, medians over the units: means apart in "
    "running standard deviations, and the ratio of the variances. Healthy is well below 1 and about 1.",
    "fixes": "What each repair was to change, measured before it (cross) and after it (circle). Healthy is the circle "
    "where the rule aims: a standard deviation of 1, a loss at its baseline.",
}
NOTHING = {
    "loss": "No value of the loss was seen.",
    "activations": "No activation function was seen.",
    "saturation": "No activation function was seen.",
    "dead-units": "No activation function whose units can be told apart was seen.",
    "gradients": "No gradient of a parameter was seen.",
    "updates": "No weight matrix was seen before and after an update.",
    "depth": "No weight layer was seen.",
    "batchnorm": "The network has no batch normalisation with running statistics.",
}
IN_ORDER = "Root causes in the order in which they act; what one explains should go when it is mended."


def render(report: Report) -> str:
    """Return the page; raises ImportError, saying what to install, without the extra `html`."""
    altair()
    content = numbers(report)
    code, script = library(), asset("page.js")
    title = f"{data.shorten(report.run.title)} · unstuck"
    policy = (
        f"default-src 'none'; script-src {_hash(code)} {_hash(script)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{plain(title)}</title>\n<style>\n{asset('page.css')}</style>\n</head>\n<body>\n",
            '<a class="skip" href="#causes">Skip to the findings</a>\n',
            head(report),
            bar(),
            "<main>\n",
            sections(report, content),
            "</main>\n<noscript><p>The charts need JavaScript; the findings do not.</p></noscript>\n",
            f'<script type="application/json" id="numbers">{as_json(content)}</script>\n',
            f"<script>{code}</script>\n<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def head(report: Report) -> str:
    """Return the page's head line: verdict, loss, versions."""
    return "".join(_head(report))


def sections(report: Report, content: dict[str, Any]) -> str:
    """Return what stands in the page's `main`; `content` are its `numbers`, which say what there is to draw."""
    parts = (causes(report), *_charts(report, content), *_fixes(report, content), *_not_checked(report), *_cost(report))
    return "".join(parts)


def causes(report: Report) -> str:
    """Return the root causes, each with its lines of code, numbers and symptoms."""
    return "".join(_causes(report))


def compact(report: Report) -> str:
    """Return verdict and root causes as a fragment without scripts, and the loss as a picture if Altair is there."""
    style = (
        "<style>.unstuck pre{padding:.4em;overflow-x:auto}.unstuck .here{font-weight:bold}"
        ".unstuck .row{display:block;white-space:pre}.unstuck .number{opacity:.65}</style>"
    )
    return f'<div class="unstuck">{style}{head(report)}{causes(report)}{_picture(report)}</div>'


def _picture(report: Report) -> str:
    from unstuck.report import charts

    try:
        import vl_convert

        svg = vl_convert.vegalite_to_svg(charts.chart(report, "loss").to_dict())
    except (ImportError, charts.NoChartError):
        return ""
    encoded = base64.b64encode(svg.encode()).decode()
    style = "max-width:100%;background:#fff"
    return f'<img alt="loss over the steps" src="data:image/svg+xml;base64,{encoded}" style="{style}">'


# -- text -------------------------------------------------------------------------------------------------------------


def plain(text: str, most: int = LONGEST) -> str:
    """Return text escaped for HTML; what cannot be encoded, and what is beyond `most` characters, is left out."""
    text = text if len(text) <= most else f"{text[:most]}…"
    return escape(text.encode("utf-8", "replace").decode().replace("\0", "\ufffd"), quote=True)


def user(text: str, most: int = LONGEST) -> str:
    """Return text of the user's program, escaped, and kept from turning the direction of what follows it."""
    return f"<bdi>{plain(text, most)}</bdi>"


@cache
def library() -> str:
    """Return the JavaScript that draws the charts: Vega, Vega-Lite and `vegaEmbed`; takes a second the first time."""
    import vl_convert

    made: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return made.replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def asset(name: str) -> str:
    """Return the text of a file of the page."""
    return (files("unstuck.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _number(value: float | None, unit: str = "1") -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" + ("" if unit == "1" else f" {user(unit, 40)}")


def _head(report: Report) -> Iterator[str]:
    run = report.run
    said = verdict(report).plain.removeprefix("unstuck: ")
    kind = "good" if report.ok and not run.failed else "bad"
    yield f'<header>\n<h1 class="{kind}">{user(said[:1].upper() + said[1:], 400)}</h1>\n'
    start, baseline = starting_loss(report.trace)
    recent = recent_loss(report.trace)
    parts = []
    if start is not None:
        parts.append(f"loss {start:.4f} at step 0" + (f" (baseline {baseline:.4f})" if baseline is not None else ""))
    if recent is not None and run.steps > 1:
        parts.append(f"{recent:.4f} over the last {min(100, len(report.trace.objective))} steps")
    yield f"<p>{'; '.join(parts)}</p>\n" if parts else ""
    made = [user(run.started, 40), *(user(f"{k} {v}", 80) for k, v in run.versions.items())]
    yield f'<p class="muted">{" · ".join(part for part in made if part)}</p>\n</header>\n'


def bar() -> str:
    """Return the links to the sections and the search box."""
    links = {"causes": "Causes", **{n: n.replace("-", " ").capitalize() for n in NAMES}}
    links |= {"not-checked": "Not checked", "cost": "Cost"}
    items = "".join(f'<a href="#{name}">{text}</a>' for name, text in links.items())
    return (
        f'<div class="bar"><div><nav aria-label="Sections">{items}</nav><label for="search">Find places '
        '<input type="search" id="search" autocomplete="off"></label> <span id="found" class="muted" '
        'role="status"></span> <button type="button" id="theme">Theme: system</button></div></div>\n'
    )


# -- findings ---------------------------------------------------------------------------------------------------------


def _causes(report: Report) -> Iterator[str]:
    yield '<section id="causes" aria-label="Root causes">\n'
    if not report.causes:
        yield '<section class="part"><p>None of the rules that could judge found a fault.</p></section>\n'
    elif len(report.causes) > 1 or report.causes[0].symptoms:
        yield f'<p class="muted">{IN_ORDER}</p>\n'
    if kept := sum(fix.kept for fix in report.fixes):
        faults = "1 fault was" if kept == 1 else f"{kept} faults were"
        yield f'<p>{faults} mended: <a href="#fixes">before and after</a></p>\n'
    for cause in report.causes:
        yield from _cause(cause)
    if report.silenced:
        codes = ", ".join(f"{plain(code)} ×{n}" if n > 1 else plain(code) for code, n in shared(report.silenced))
        yield f'<p class="muted">silenced by comments or settings: {codes}</p>\n'
    yield "</section>\n"


def _cause(cause: Cause) -> Iterator[str]:
    root = cause.root
    mark, _ = MARKS[root.severity]
    where = place(root.location) or root.site
    yield f'<article class="{root.severity}">\n<h3><span class="level">{mark} {root.severity}</span> '
    yield f'{root.code} {root.name} <span class="code">{user(where, 200)}</span></h3>\n<p>{user(root.message)}</p>\n'
    yield excerpt(root.location)
    yield from _evidence(root)
    if cause.also:
        also = ", ".join(f"{user(f.site, 100)} ({_number(f.measured, f.unit)})" for f in cause.also[:MOST_ALSO])
        more = f" and {len(cause.also) - MOST_ALSO} more" if len(cause.also) > MOST_ALSO else ""
        yield f"<p>Also at {also}{more}</p>\n"
    if cause.symptoms:
        yield f"<details{' open' if len(cause.symptoms) <= 4 else ''}><summary>Explains "
        yield ", ".join(f"{plain(name)}{f' ×{n}' if n > 1 else ''}" for name, n in shared(cause.symptoms))
        items = (
            f'<li>{plain(s.code)} <span class="code">{user(place(s.location) or s.site, 200)}</span>: '
            f"{user(s.message)}{''.join(_evidence(s))}</li>"
            for s in cause.symptoms
        )
        yield f"</summary><ul>{''.join(items)}</ul></details>\n"
    yield lesson(root.code)
    more = f"<code>unstuck rule {plain(root.code)}</code> says more"
    remedy = f"Remedy: {plain(', '.join(root.fixes))} · " if root.fixes else ""
    yield f'<p class="muted">{remedy}{more}</p>\n</article>\n'


def _evidence(finding: Finding) -> Iterator[str]:
    first, last = finding.steps
    yield f'<p class="muted">measured {_number(finding.measured, finding.unit)}, threshold '
    yield f"{_number(finding.threshold, finding.unit)}, "
    yield f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
    yield "".join(f" · {user(e.name, 100)} {_number(e.value, e.unit)}" for e in finding.evidence)
    yield "</p>\n"


def excerpt(location: Location | None) -> str:
    """Return the lines about a place, the line itself marked; "" where the source cannot be read."""
    lines = [] if location is None else linecache.getlines(location.file)
    if location is None or not 1 <= location.line <= len(lines):
        return ""
    rows = []
    for number in range(max(1, location.line - AROUND), min(len(lines), location.line + AROUND) + 1):
        kind, mark = (" here", "▶") if number == location.line else ("", " ")
        line = plain(lines[number - 1].rstrip(), 400)
        rows.append(f'<span class="row{kind}"><span class="number">{mark} {number:>4}</span> {line}</span>')
    label = plain(f"line {location.line} of {data.shorten(location.file)}", 200)
    return f'<pre tabindex="0" aria-label="{label}">{"".join(rows)}</pre>\n'


# -- charts -----------------------------------------------------------------------------------------------------------


def _part(name: str, title: str, body: str, *, opened: bool) -> str:
    return (
        f'<details class="part" id="{name}"{" open" if opened else ""}><summary><h2>{title}</h2></summary>\n'
        f"{body}</details>\n"
    )


def _charts(report: Report, content: dict[str, Any]) -> Iterator[str]:
    few = sum(len(group["cards"]) for group in content["cards"].values()) <= MOST_OPEN
    for name, title in NAMES.items():
        if name == "fixes":  # a table of its own
            continue
        body = NOTHING[name]
        if name in content["cards"]:
            body = slider(name) if name in SLIDERS else ""
            body += f'<div class="cards" data-cards="{name}" data-title="{title}"></div>'
        elif name in content["charts"]:
            body = f'<div class="chart" data-chart="{name}" role="img" aria-label="{title}"></div>'
        if body is not NOTHING[name]:
            if cut := data.left_out(report.trace, name):
                body = f'<p class="muted">{cut}</p>{body}'
            slopes = data.depth_slopes(report.trace) if name == "depth" else []
            more = f"<ul>{''.join(f'<li>{user(slope)}</li>' for slope in slopes)}</ul>" if slopes else ""
            body = _figure(name, f"{more}{body}")
        else:
            body = f'<p class="muted">{body}</p>'
        yield _part(name, title, body, opened=few or name == "loss")


def _figure(name: str, body: str) -> str:
    return f"<figure><figcaption>{CAPTIONS[name]}</figcaption>{body}</figure>"


def slider(name: str) -> str:
    """Return what moves the panels of a section over their steps."""
    return (
        f'<div class="slider"><button type="button">▶ play</button><input type="range" min="0" max="0" value="0" '
        f'step="1" aria-label="{NAMES[name]}: sampled step"><output></output></div>'
    )


# -- the rest ---------------------------------------------------------------------------------------------------------


def _fixes(report: Report, content: dict[str, Any]) -> Iterator[str]:
    body = "".join(_fix(fix) for fix in report.fixes) or f'<p class="muted">{_nothing_mended(report)}</p>'
    if "fixes" in content["charts"]:
        chart = f'<div class="chart" data-chart="fixes" role="img" aria-label="{NAMES["fixes"]}"></div>'
        body = _figure("fixes", chart) + body
    if notes := "; ".join(unproven(report, report.fixes)):
        body += f'<p class="caution">{user(notes[:1].upper() + notes[1:])}</p>'
    body += "".join(f"<p>Not mended: {user(text)}</p>" for text in report.withheld)
    yield _part("fixes", NAMES["fixes"], body, opened=True)


def _nothing_mended(report: Report) -> str:
    named = dict.fromkeys(name for cause in report.causes for name in cause.root.fixes)
    more = " <code>unstuck run --unsafe-fixes</code> on the same script would try: " + plain(", ".join(named))
    return f"Nothing was mended in this run.{more if named else ''}"


def _fix(fix: AppliedFix) -> str:
    when = f"after step {fix.step:,}" if fix.step else "before the first step"
    when += ", training began again" if fix.restarted else ""
    outcome = f"kept, {when}" if fix.kept else f"put back: {user(fix.why)}"
    proof = f"; {plain(str(fix.proof))}" if fix.proof is not None else ""
    code = "".join(f'<span class="row">{plain(line, LONGEST)}</span>' for line in fix.snippet.splitlines())
    where = f' <span class="code">{user(place(fix.location), 200)}</span>' if fix.location else ""
    numbers = f"{_number(fix.before)} → {after_of(fix, 4) if fix.after is None else _number(fix.after, fix.unit)}"
    return (
        f"<h3>{plain(fix.code)} {plain(fix.name)}: {user(fix.site, 200)}{where}</h3>\n"
        f"<p>{user(fix.statistic)}: <strong>{numbers}</strong> ({outcome}{proof})</p>\n"
        + (f'<pre tabindex="0" aria-label="lines of the repair">{code}</pre>\n' if code and fix.kept else "")
    )


def _not_checked(report: Report) -> Iterator[str]:
    needs: dict[str, list[str]] = {}
    for rule in report.not_checked:
        needs.setdefault(rule.lacking, []).append(f"{rule.code} {rule.name}")
    items = "".join(f"<li>needs {user(need)}: {plain(', '.join(rules))}</li>" for need, rules in needs.items())
    body = f"<ul>{items}</ul>" if items else '<p class="muted">Every rule could judge.</p>'
    title = f"What was not checked ({len(report.not_checked)} rules)" if items else "What was not checked"
    yield _part("not-checked", title, body, opened=len(needs) <= 6)


def _cost(report: Report) -> Iterator[str]:
    cost, run, error = report.trace.facts.watching, report.run, report.trace.facts.internal_error
    lines = [line for line in (cost_line(cost, run.steps), budget_warning(cost)) if line]
    lines = lines or [f"{len(report.trace.steps)} of {run.steps:,} steps were sampled"]
    if error:
        lines.append(f"watching ended early by an internal error: {error}")
    yield _part("cost", "What watching cost", "".join(f"<p>{user(line)}</p>" for line in lines), opened=True)
