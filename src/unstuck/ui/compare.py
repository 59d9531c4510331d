"""Two runs side by side: what is drawn and said of both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from unstuck.report import Report, html, panels
from unstuck.report import chartdata as data
from unstuck.report.charts import NAMES, level_line, loss_scale, steps_axis
from unstuck.report.pagedata import histogram_cards, packed
from unstuck.report.report import recent_loss, starting_loss
from unstuck.report.style import BLUE, HEIGHT, ORANGE, WIDTH, altair, unvalidated, values
from unstuck.report.text import verdict
from unstuck.rules.depth import chains

UNKNOWN = "–"


@dataclass(frozen=True)
class Side:
    """One of the two: `causes` is HTML, `losses` rows of step, loss and run, `vitals` texts by what they are.

    `baseline` is the loss of predictions that know nothing, `histograms` what enters each activation function.
    """

    letter: str
    name: str
    said: str
    causes: str
    losses: data.Rows
    vitals: dict[str, str]
    baseline: float | None
    histograms: list[data.Histogram]


def side(letter: str, name: str, report: Report, state: str) -> Side:
    """Return what is shown of a run."""
    label = f"{letter} {data.shorten(report.run.title)}"
    losses = [
        {"step": row["step"], "loss": row["loss"], "run": label} for row in data.loss(report.trace) if "loss" in row
    ]
    said = verdict(report).plain.removeprefix("unstuck: ")
    causes = html.causes(report).replace(' id="causes"', "")
    _, baseline = starting_loss(report.trace)
    histograms = panels.activation_histograms(report)
    return Side(letter, name, said, causes, losses, {"State": state, **vitals(report)}, baseline, histograms)


def vitals(report: Report) -> dict[str, str]:
    """Return the numbers that tell two runs apart at a glance, as texts; "–" where the run has none."""
    trace = report.trace
    start, baseline = starting_loss(trace)
    shares = data.saturation(trace)
    saturated, off = ([row for row in shares if row["switch"] == switch] for switch in (False, True))
    maps = panels.unit_maps(report)
    return {
        "Steps": f"{report.run.steps:,}",
        "Loss at step 0": _number(start),
        "Baseline loss": _number(baseline),
        "Loss at the end, mean of 100 steps": _number(recent_loss(trace)),
        "Lowest loss of a step": _number(min((v for v in trace.objective.values() if math.isfinite(v)), default=None)),
        "Saturated, most of a place, first sample": _share(saturated, min),
        "Saturated, most of a place, last sample": _share(saturated, max),
        "Switched off, most of a rectifier, last sample": _share(off, max),
        "Dead units": _dead(maps),
        "Update-to-data, median, last sample": _update_to_data(report),
        "Depth slope at the start, decades a layer": _slope(report),
        "Sampled steps": f"{len(trace.steps):,}",
        "Training time": f"{report.run.seconds:.1f} s",
    }


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4f}"


def _share(rows: data.Rows, choose: Any) -> str:
    if not rows:
        return UNKNOWN
    step = choose(row["step"] for row in rows)
    return f"{max(row['share'] for row in rows if row['step'] == step):.1%}"


def _dead(maps: list[data.UnitMap]) -> str:
    if not maps:
        return UNKNOWN
    return f"{sum(made.dead for made in maps):,} of {sum(made.total for made in maps):,}"


def _update_to_data(report: Report) -> str:
    rows = data.updates(report.trace)
    last = {row["place"]: row["log10"] for row in rows}  # rows of a place are in the order of their steps
    return f"{10 ** statistics.median(last.values()):.2g}" if last else UNKNOWN


def _slope(report: Report) -> str:
    slopes = [chain.slope for chain in chains(report.trace)]
    return data.decades(max(slopes, key=abs)) if slopes else UNKNOWN


def numbers(pair: list[Side]) -> dict[str, Any]:
    """Return what is drawn of both, as `pagedata.numbers` has it."""
    made = _pairs(pair)
    return {"charts": loss_chart(pair), "cards": {"activations": made} if made["cards"] else {}}


def _pairs(pair: list[Side]) -> dict[str, Any]:
    """Return the histograms of the k-th activation functions of both next to each other, over one range of values.

    They have the steps that both runs sampled; where there are none, each has its own.
    """
    shown: list[data.Histogram] = []
    ranges: list[list[float]] = []
    for both in zip(*(one.histograms[: panels.PANELS] for one in pair), strict=False):
        common = set.intersection(*(set(made.steps) for made in both))
        span = [float(min(made.edges[0] for made in both)), float(max(made.edges[-1] for made in both))]
        for one, made in zip(pair, both, strict=True):
            kept = [k for k, step in enumerate(made.steps) if step in common] or list(range(len(made.steps)))
            steps, notes = (tuple(part[k] for k in kept) for part in (made.steps, made.notes))
            name = f"{one.letter} {made.name}"
            shown.append(replace(made, name=name, steps=steps, notes=notes, shares=made.shares[kept]))
            ranges.append(span)
    made_cards = histogram_cards(shown, magnitudes=False)
    for card, span in zip(made_cards["cards"], ranges, strict=True):
        card["range"] = span
    return made_cards


def loss_chart(pair: list[Side]) -> dict[str, Any]:
    """Return the losses of both in one chart, as `pagedata.numbers` has charts; nothing where neither has any."""
    alt = altair()
    rows = [row for one in pair for row in one.losses]
    if not rows:
        return {}
    levels = sorted({one.baseline for one in pair if one.baseline is not None and math.isfinite(one.baseline)})
    scale = loss_scale(alt, [*(row["loss"] for row in rows), *levels[:-1]], max(levels, default=None))
    shown = [one.losses[0]["run"] for one in pair if one.losses]
    colours = alt.Scale(domain=shown, range=[BLUE, ORANGE][: len(shown)])
    dashes = alt.Scale(domain=shown, range=[[1, 0], [6, 3]][: len(shown)])
    with unvalidated():
        made = (
            alt.Chart(values(rows))
            .mark_line(strokeWidth=2)
            .encode(
                x=steps_axis(alt),
                y=alt.Y("loss:Q", title="loss", scale=scale, axis=alt.Axis(format="~r", tickCount=6)),
                color=alt.Color("run:N", title=None, scale=colours),
                strokeDash=alt.StrokeDash("run:N", title=None, scale=dashes),
                tooltip=["run:N", "step:Q", alt.Tooltip("loss:Q", format=".4g")],
            )
        )
        for level in levels:
            if level > 0 or scale.type != "log":
                made += level_line(alt, level, f"baseline {level:.4g}")
        return {"loss": packed(made.properties(width=WIDTH, height=HEIGHT))}


def sections(pair: list[Side], content: dict[str, Any]) -> Iterator[str]:
    """Yield the sections of the page."""
    body = '<p class="muted">No value of the loss was seen in either run.</p>'
    if content["charts"]:
        caption = "The losses of each run's first ten steps, then means of its steps up to the next point."
        body = (
            f"<figure><figcaption>{caption}</figcaption>"
            '<div class="chart" data-chart="loss" role="img" aria-label="The losses of both runs"></div></figure>'
        )
    yield f'<details class="part" id="loss" open><summary><h2>Loss</h2></summary>{body}</details>\n'
    yield from _activations(pair, content)
    yield from _table(pair)
    yield '<section id="both" class="both" aria-label="Root causes of both runs">\n'
    for one in pair:
        yield f'<div><h2>{one.letter} <a href="{html.plain(address(one.name))}">{html.user(one.name, 200)}</a></h2>\n'
        yield f"<p><strong>{html.plain(one.said)}</strong></p>\n{one.causes}</div>\n"
    yield "</section>\n"


def _activations(pair: list[Side], content: dict[str, Any]) -> Iterator[str]:
    """Yield the section of the histograms; nothing where one of the runs has none."""
    if "activations" not in content["cards"]:
        return
    title = NAMES["activations"]
    most = max(len(one.histograms) for one in pair)
    cut = f" The first {panels.PANELS} of {most} are shown." if most > panels.PANELS else ""
    caption = (
        "The activation functions of both runs in the order of execution, A beside B, over the same values and at the "
        f"sampled steps that both have.{cut} {html.CAPTIONS['activations']}"
    )
    yield f'<details class="part" id="activations" open><summary><h2>{title}</h2></summary>\n<figure><figcaption>'
    yield f'{caption}</figcaption>{html.slider("activations")}<div class="cards pairs" data-cards="activations" '
    yield f'data-title="{title}"></div></figure></details>\n'


def _table(pair: list[Side]) -> Iterator[str]:
    yield '<details class="part" id="vitals" open><summary><h2>Vitals</h2></summary><table class="vitals"><thead><tr>'
    yield '<td></td><th scope="col">A</th><th scope="col">B</th></tr></thead><tbody>\n'
    for what in dict.fromkeys(what for one in pair for what in one.vitals):
        cells = "".join(f"<td>{html.plain(one.vitals.get(what, UNKNOWN), 200)}</td>" for one in pair)
        yield f'<tr><th scope="row">{what}</th>{cells}</tr>\n'
    yield "</tbody></table></details>\n"


def address(name: str) -> str:
    """Return where the page of a run is."""
    return f"run?{urlencode({'name': name})}"
