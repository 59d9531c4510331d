"""Each chart of a report by itself, as Vega-Lite made by Altair (https://altair-viz.github.io); needs extra `html`.

What colour tells is also told by a dash, a shape or a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstuck.findings import Finding
from unstuck.report import chartdata as data
from unstuck.report import panels
from unstuck.report.report import AppliedFix, Report, starting_loss
from unstuck.report.style import BLUE, COLOURS, GREEN, GREY, HEIGHT, ORANGE, RED, WIDTH, altair, unvalidated, values

if TYPE_CHECKING:
    import altair as alt

NAMES: dict[str, str] = {
    "loss": "Loss",
    "activations": "Activation histograms",
    "saturation": "Saturation map",
    "dead-units": "Dead-unit map",
    "gradients": "Gradient histograms",
    "updates": "Update-to-data ratio",
    "depth": "Scale over depth",
    "batchnorm": "BatchNorm: batch against running statistics",
    "fixes": "Before and after the fixes",
}
"""The charts by name, in the order of the page, with their titles."""

SLIDERS = ("activations", "gradients")
"""Those that show one step at a time."""

HALO = "halo"  # the style that a page may give a broad stroke in its own colour
MOST_RANGES = 24  # findings whose steps are shown below the loss
MOST_FIXES = 24
ENDINGS = ("png", "svg", "html")
FEW = 8  # lines that are told apart by colour and dash; of more, the colour says how deep
SATURATED: tuple[tuple[bool, str, str, dict[str, Any]], ...] = (  # of a rectifier or not, in words, scale of colours
    (False, "saturated", "", {"scheme": "inferno", "domain": [0, 1]}),
    (
        True,
        "switched off",
        " (about half is usual)",
        {"range": ["#10294a", BLUE, "#f3e9d2"], "domain": [0, 0.5, 1], "interpolate": "rgb"},
    ),
)
GUIDE = -3.0  # log10 of update-to-data; Karpathy 2022, https://github.com/karpathy/nn-zero-to-hero (lecture 4)


class NoChartError(ValueError):
    """There is no such chart, or this run has nothing to show in it, or it cannot be written."""


def chart(report: Report, name: str, step: int | None = None) -> alt.TopLevelMixin:
    """Return one chart of a report, by a name of `NAMES`; of histograms those of a sampled `step`, else of the first.

    Raises NoChartError for another name, for a step that is not shown or a chart that has none to choose, and where the
    run has nothing to show; ImportError without the extra `html`.
    """
    if name not in NAMES:
        raise NoChartError(f"no chart {name!r}; choose from {', '.join(NAMES)}")
    if step is not None and name not in SLIDERS:
        raise NoChartError(f"the chart {name!r} shows all steps at once; one can be chosen for {' and '.join(SLIDERS)}")
    altair()
    with unvalidated():
        try:
            made = _MAKERS[name](report) if step is None else _histograms(report, name, step)
        except panels.NoStepError as error:
            raise NoChartError(str(error)) from None
    if made is None:
        raise NoChartError(f"nothing to show in the chart {name!r}: the run has no numbers for it")
    titled: alt.TopLevelMixin = (
        made.properties(title=f"{NAMES[name]} · {data.shorten(report.run.title)}", description=NAMES[name])
        .configure_view(stroke=GREY)
        .configure_axis(gridOpacity=0.4, labelLimit=240)
        .configure_legend(labelLimit=300, symbolLimit=FEW)
    )
    return titled


def save(made: alt.TopLevelMixin, path: Path, *, scale: float = 2.0) -> None:
    """Write a chart as PNG (`scale` pixels a unit), SVG or a self-contained HTML page, by the ending of `path`.

    Raises NoChartError for another ending, and OSError.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in ENDINGS:
        raise NoChartError(f"cannot write a chart as {path.name}; its name must end in {', '.join(ENDINGS)}")
    if ending == "html":
        made.save(path, format="html", inline=True)
    elif ending == "svg":
        made.save(path, format="svg")
    else:
        made.save(path, format="png", scale_factor=scale)


def available(report: Report) -> Iterable[tuple[str, Any]]:
    """Yield (name, chart without title or theme) of each chart of one panel for which the run has numbers."""
    for name in ("loss", "saturation", "updates", "depth", "batchnorm", "fixes"):
        made = _MAKERS[name](report)
        if made is not None:
            yield name, made


# -- parts that charts share ------------------------------------------------------------------------------------------


def search_box() -> Any:
    """Return the parameter `search`: a text that names of places must contain to be shown."""
    alt = altair()
    box = alt.binding(input="search", placeholder="part of a name", name="places ")
    return alt.param(name="search", value="", bind=box)


FOUND = "indexof(lower(datum.place), lower(search)) >= 0"


def steps_axis(alt: Any) -> Any:
    """Return the axis of steps in their proportions, with labels that stand apart."""
    axis = alt.Axis(tickMinStep=1, format=",d", labelOverlap="parity", labelSeparation=6)
    return alt.X("step:Q", title="step", axis=axis)


def _two(channel: Any, field: str, domain: list[str], shown: list[str]) -> Any:
    return channel(f"{field}:N", scale=altair().Scale(domain=domain, range=shown), title=None)


def _lines(alt: Any, rows: data.Rows, y: Any) -> Any:
    """Return one line a place over the steps; told apart by colour and dash while they are few, else by depth."""
    shown = {"x": steps_axis(alt), "y": y, "detail": "place:N"}
    if len({row["place"] for row in rows}) <= FEW:
        order = alt.EncodingSortField("order", op="min")
        dashes = alt.Legend(symbolType="stroke", symbolSize=400, symbolStrokeWidth=2)
        scale = alt.Scale(range=list(COLOURS))
        shown["color"] = alt.Color("place:N", sort=order, scale=scale, title=None, legend=dashes)
        shown["strokeDash"] = alt.StrokeDash("place:N", sort=order, title=None, legend=dashes)
    else:
        shown["color"] = alt.Color("order:Q", scale=alt.Scale(scheme="viridis"), title="depth (0 = first)")
    numbers = [name for name in ("log10", "value") if name in rows[0]]
    tooltip = ["place:N", "step:Q", *(f"{name}:Q" for name in numbers)]
    point = alt.OverlayMarkDef(size=24, filled=True)
    base = alt.Chart(values(rows)).transform_filter(FOUND)
    return base.mark_line(strokeWidth=1.6, point=point).encode(**shown, tooltip=tooltip)


def level_line(alt: Any, value: float, text: str, *, above: bool = True) -> Any:
    """Return a dashed horizontal line with its text above or below it."""
    at = alt.Chart(values([{"at": value, "text": text}]))
    rule = at.mark_rule(strokeDash=[6, 4], color=RED, strokeWidth=1.5).encode(y="at:Q")
    texts = [  # the first one, in the page's colour, keeps lines from crossing the second
        at.mark_text(align="right", dx=-4, dy=-7 if above else 8, fontWeight="bold", style=style).encode(
            x=alt.value("width"), y="at:Q", text="text:N"
        )
        for style in (HALO, "label")
    ]
    return rule + texts[0] + texts[1]


# -- the charts -------------------------------------------------------------------------------------------------------


def _loss(report: Report) -> Any:
    """Return the loss with its baseline, and below it the steps that each root cause speaks of."""
    alt = altair()
    rows = data.loss(report.trace)
    finite = [row for row in rows if "loss" in row]
    if not finite:
        return None
    _, baseline = starting_loss(report.trace)
    scale = loss_scale(alt, [*(row["low"] for row in finite), *(row["high"] for row in finite)], baseline)
    x = steps_axis(alt).scale(domain=[0, max(1, rows[-1]["step"])], nice=False)
    y = alt.Y("loss:Q", scale=scale, title="loss", axis=alt.Axis(minExtent=44, format="~r", tickCount=6))
    base = alt.Chart(values(finite)).encode(x=x)
    spread = base.mark_area(color=BLUE, opacity=0.25).encode(y=alt.Y("low:Q", scale=scale, title="loss"), y2="high:Q")
    line = base.mark_line(color=BLUE, strokeWidth=2).encode(
        y=y, tooltip=["step:Q", alt.Tooltip("loss:Q", format=".4g"), alt.Tooltip("low:Q"), alt.Tooltip("high:Q")]
    )
    layers = spread + line
    if baseline is not None and (baseline > 0 or scale.type != "log"):
        text = f"baseline {baseline:.4g} (uninformative predictions)"
        layers += level_line(alt, baseline, text, above=finite[-1]["loss"] < baseline)
    broken = [row for row in rows if row["infinite"]]
    if broken:
        mark = alt.Chart(values(broken)).mark_text(text="✗", color=RED, fontSize=14, baseline="top")
        layers += mark.encode(x="step:Q", y=alt.value(0), tooltip=["step:Q", "infinite:Q"])
    upper = layers.properties(width=WIDTH, height=HEIGHT)
    ranges = _ranges(report)
    if not ranges:
        return upper
    return alt.vconcat(upper, _finding_bars(alt, ranges, x), spacing=6).resolve_scale(x="shared")


def loss_scale(alt: Any, shown: list[float], baseline: float | None) -> Any:
    """Return an axis for the losses and their baseline: of their logarithms where they span more than a factor of 5."""
    low, high = min(shown), max(shown)
    if low > 0 and high > 5 * low:
        shown = [*shown, baseline] if baseline is not None and baseline > 0 else shown
        return alt.Scale(type="log", nice=False, domain=[0.85 * min(shown), 1.25 * max(shown)])
    low, high = min(low, high if baseline is None else baseline), max(high, low if baseline is None else baseline)
    margin = 0.08 * (high - low) or 0.5
    return alt.Scale(type="linear", nice=False, zero=False, domain=[low - margin, high + margin])


def _ranges(report: Report) -> data.Rows:
    """Return rows of text, first and last step: each root cause, and below it what it explains, by code."""
    shown: list[tuple[str, list[Finding]]] = []
    for cause in report.causes:
        shown.append((f"{cause.root.severity}: {cause.root.code} {cause.root.name}", [cause.root, *cause.also]))
        for code in dict.fromkeys(symptom.code for symptom in cause.symptoms):
            alike = [symptom for symptom in cause.symptoms if symptom.code == code]
            shown.append((f"└ {code} {alike[0].name}", alike))
    rows = []
    for order, (text, found) in enumerate(shown[:MOST_RANGES]):
        first, last = min(f.steps[0] for f in found), max(f.steps[1] for f in found)
        rows.append({"order": order, "text": text, "step": first, "end": max(last, first + 1)})
    return rows


def _finding_bars(alt: Any, ranges: data.Rows, x: Any) -> Any:
    base = alt.Chart(values(ranges)).encode(
        y=alt.Y("order:O", axis=alt.Axis(labels=False, ticks=False, minExtent=44, title="findings"))
    )
    tooltip = ["text:N", "step:Q", "end:Q"]
    x = x.copy()
    x.axis = alt.Axis(labels=False, ticks=False, title=None)  # that of the loss, right above
    bar = base.mark_bar(color=ORANGE, opacity=0.45, height=16).encode(x=x, x2="end:Q", tooltip=tooltip)
    begin = base.mark_tick(color=ORANGE, thickness=3, size=16).encode(x=x)  # also of a range of one step
    label = base.mark_text(align="left", dx=8, fontWeight="bold").encode(x=alt.value(0), text="text:N")
    return (bar + begin + label).properties(width=WIDTH, height=alt.Step(20))


def _histograms(report: Report, name: str, step: int | None = None) -> Any:
    magnitudes = name == "gradients"
    made = panels.gradient_histograms(report, step) if magnitudes else panels.activation_histograms(report, step)
    return panels.side_by_side(report, made, magnitudes=magnitudes, step=step)


def _saturation(report: Report) -> Any:
    alt = altair()
    rows = data.saturation(report.trace)
    if not rows:
        return None
    many = len({row["place"] for row in rows}) > 40
    layers = [_shares(alt, *kind) for kind in SATURATED if any(row["switch"] == kind[0] for row in rows)]
    return (
        alt.layer(*layers, data=values(rows))
        .resolve_scale(color="independent")
        .transform_filter(FOUND)
        .add_params(search_box())
        .properties(width=WIDTH, height=alt.Step(10 if many else 18))
    )


def _shares(alt: Any, switch: bool, what: str, note: str, scale: dict[str, Any]) -> Any:
    """Return a cell for each place and step, of the rectifiers or of the other activation functions."""
    legend = alt.Legend(title=f"{what}{note}", format="%", orient="top", gradientLength=160)
    return (
        alt.Chart()
        .transform_filter("datum.switch" if switch else "!datum.switch")
        .mark_rect()
        .encode(
            x=alt.X("step:O", title="sampled step", axis=panels.crowded(alt)),
            y=alt.Y("place:N", sort=alt.EncodingSortField("order", op="min"), title=None),
            color=alt.Color("share:Q", scale=alt.Scale(**scale), legend=legend),
            tooltip=["place:N", "step:O", alt.Tooltip("share:Q", format=".1%", title=what)],
        )
    )


def _updates(report: Report) -> Any:
    alt = altair()
    rows = data.updates(report.trace)
    if not rows:
        return None
    shown = [GUIDE, *(row["log10"] for row in rows)]
    scale = alt.Scale(nice=False, zero=False, domain=[min(shown) - 0.5, max(shown) + 0.5])
    y = alt.Y("log10:Q", title="log10 (rms of update / rms of data)", scale=scale)
    lines = _lines(alt, rows, y) + level_line(alt, GUIDE, "guide: 1e-3")
    return lines.add_params(search_box()).properties(width=WIDTH, height=HEIGHT)


def _depth(report: Report) -> Any:
    alt = altair()
    rows = data.depth(report.trace)
    if not rows:
        return None
    deepest = max(row["depth"] for row in rows)
    axis = alt.Axis(values=list(range(1, deepest + 1, -(-deepest // 15))), format="d")
    base = alt.Chart(values(rows)).encode(
        x=alt.X("depth:Q", title="layer, in order of execution", axis=axis, scale=alt.Scale(nice=False, zero=False)),
        y=alt.Y("log10:Q", title="log10 std", scale=alt.Scale(zero=False)),
        color=_two(alt.Color, "way", ["forward", "backward"], [BLUE, ORANGE]),
    )
    line = base.mark_line(strokeWidth=1.8).encode(strokeDash=alt.StrokeDash("when:N", title="sampled step"))
    points = base.mark_point(size=40, filled=True).encode(
        shape=_two(alt.Shape, "way", ["forward", "backward"], ["circle", "triangle-up"]),
        tooltip=["place:N", "depth:Q", "way:N", "step:Q", "log10:Q"],
    )
    layers = line + points
    if any(row["log10"] is None for row in rows):
        gone = base.transform_filter("!isValid(datum.log10)").mark_text(text="✗", fontSize=13, baseline="bottom")
        tooltip = ["place:N", "depth:Q", "way:N", "step:Q", alt.Tooltip("missing:N", title="standard deviation")]
        layers += gone.encode(y=alt.value(HEIGHT - 2), tooltip=tooltip)
    return layers.properties(width=WIDTH, height=HEIGHT)


def _batch_norms(report: Report) -> Any:
    alt = altair()
    rows = data.batch_norms(report.trace)
    if not rows:
        return None
    panels = []
    for what, title in (
        ("mean", "distance of the means (running std)"),
        ("variance", "ratio of the variances (1 = equal)"),
    ):
        part = [row for row in rows if row["what"] == what]
        if part:
            scale = alt.Scale(type="log" if what == "variance" else "symlog", nice=True)
            y = alt.Y("value:Q", title=title, scale=scale, axis=alt.Axis(minExtent=44, format="~r", tickCount=6))
            panels.append(_lines(alt, part, y).properties(width=WIDTH, height=170))
    return alt.vconcat(*panels, spacing=10).add_params(search_box())


def _fixes(report: Report) -> Any:
    """Return a panel a repair: what it changed, before and after, with the numbers."""
    panels = [_fix(number, fix) for number, fix in enumerate(report.fixes[:MOST_FIXES], 1)]
    known = [panel for panel in panels if panel is not None]
    return altair().vconcat(*known, spacing=14) if known else None


def _fix(number: int, fix: AppliedFix) -> Any:
    alt = altair()
    measured = [(when, v) for when, v in (("before", fix.before), ("after", fix.after)) if v is not None]
    rows: data.Rows = [
        {"when": when, "value": value, "unit": fix.unit} for when, value in measured if math.isfinite(value)
    ]
    if not rows:
        return None
    low, high = min(row["value"] for row in rows), max(row["value"] for row in rows)
    scale = alt.Scale(type="log", nice=True) if 0 < 100 * low < high else alt.Scale(zero=True, nice=True)
    base = alt.Chart(values(rows)).encode(
        x=alt.X("value:Q", title=None, scale=scale, axis=alt.Axis(format="~r", tickCount=6)),
        tooltip=["when:N", "value:Q", "unit:N"],
    )
    path = base.mark_line(color=GREY, strokeDash=[3, 3])
    points = base.mark_point(size=110, filled=True).encode(
        color=_two(alt.Color, "when", ["before", "after"], [ORANGE, GREEN]),
        shape=_two(alt.Shape, "when", ["before", "after"], ["cross", "circle"]),
    )
    title = alt.Title(data.shorten(f"{number}. {fix.code} {fix.name}: {fix.site}: {fix.statistic}", 90), anchor="start")
    return (path + points).properties(title=title, width=WIDTH, height=34)


_MAKERS: dict[str, Callable[[Report], Any]] = {
    "loss": _loss,
    "activations": partial(_histograms, name="activations"),
    "saturation": _saturation,
    "dead-units": panels.dead_units,
    "gradients": partial(_histograms, name="gradients"),
    "updates": _updates,
    "depth": _depth,
    "batchnorm": _batch_norms,
    "fixes": _fixes,
}
