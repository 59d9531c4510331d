"""Small charts, one a place: histograms at a step, maps of units. The page draws each apart, a chart all of them."""

from __future__ import annotations

from typing import Any, TypeVar

from unstuck.report import chartdata as data
from unstuck.report.report import Report
from unstuck.report.style import BLUE, GREEN, GREY, GREYS, ORANGE, altair, values

PANELS = 12  # small charts in a chart by itself
NOTE_HEIGHT = 12  # pixels of a line of a small chart's note


_SPLIT = {  # the parts of a bin: within the responsive interval, below it, above it
    "within": (
        "isValid(datum.low) ? max(datum.x0, datum.low) : datum.x0",
        "isValid(datum.high) ? min(datum.x1, datum.high) : datum.x1",
    ),
    "below": ("datum.x0", "isValid(datum.low) ? min(datum.x1, datum.low) : datum.x0"),
    "above": ("isValid(datum.high) ? max(datum.x0, datum.high) : datum.x1", "datum.x1"),
}


def histogram_layers(source: Any, *, magnitudes: bool) -> Any:
    """Return a histogram of rows (x0, x1, share, first, low, high, switch): bars, first step's outline, interval.

    `low` and `high` are the responsive interval's ends within the chart, null where there is none; `switch` says that
    what lies outside is switched off, as a rectifier does it, and not saturated. A bar across an end has both colours.
    """
    alt = altair()
    title = "log10 |gradient|" if magnitudes else "input of the activation function"
    x = alt.X("begin:Q", title=title, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(format="~r", tickCount=5))
    y = alt.Y("share:Q", title="share", axis=alt.Axis(format="%", tickCount=3), scale=alt.Scale(zero=True))
    base = alt.Chart(source)
    off = alt.condition("datum.switch", alt.value(GREY), alt.value(ORANGE))
    bars = [
        base.transform_calculate(begin=begin, end=end)
        .transform_filter("datum.begin < datum.end")
        .mark_rect(opacity=0.85)
        .encode(x=x, x2="end:Q", y=y, y2=alt.Y2Datum(0), color=alt.value(BLUE) if part == "within" else off)
        for part, (begin, end) in _SPLIT.items()
    ]
    outline = base.mark_line(interpolate="step-after", color=GREY, strokeDash=[3, 2], strokeWidth=1.3).encode(
        x="x0:Q", y="first:Q"
    )
    if magnitudes:
        return bars[0] + outline
    interval = base.transform_aggregate(low="min(low)", high="max(high)", groupby=["name"])
    known = interval.transform_filter("isValid(datum.low) && isValid(datum.high)")
    shade = known.mark_rect(color=GREEN, opacity=0.2).encode(x="low:Q", x2="high:Q")
    ends = [known.mark_rule(color=GREEN, strokeDash=[2, 2]).encode(x=f"{end}:Q") for end in ("low", "high")]
    return alt.layer(shade, *bars, outline, *ends)


def histogram_rows(made: data.Histogram, frame: int, steps: list[int]) -> data.Rows:
    """Return the rows that `histogram_layers` draws for the k-th step of a histogram.

    `steps` are all that a slider has; `frame` is that step's place among them, `until` that of the next one.
    """
    low, high = clipped_interval(made)
    begin = steps.index(made.steps[frame]) if frame else 0
    until = steps.index(made.steps[frame + 1]) if frame + 1 < len(made.steps) else len(steps)
    return [
        {
            "name": made.name,
            "x0": float(f"{made.edges[k]:.5g}"),
            "x1": float(f"{made.edges[k + 1]:.5g}"),
            "share": round(float(made.shares[frame, k]), 4),
            "first": round(float(made.shares[0, k]), 4),
            "low": low,
            "high": high,
            "switch": data.is_rectifier(made.site),
            "frame": begin,
            "until": until,
            "note": f"step {made.steps[frame]:,}: {made.notes[frame]}",
        }
        for k in range(made.shares.shape[1])
    ]


def clipped_interval(made: data.Histogram) -> tuple[float | None, float | None]:
    """Return the ends of the responsive interval within the histogram; None and None where there is none."""
    if made.interval is None:
        return None, None
    low, high = max(made.interval[0], float(made.edges[0])), min(made.interval[1], float(made.edges[-1]))
    return (low, high) if low < high else (None, None)


class NoStepError(ValueError):
    """A place was not sampled at the step that was asked for."""


Small = TypeVar("Small", data.Histogram, data.UnitMap)


def chosen(report: Report, made: list[Small]) -> tuple[list[Small], str]:
    """Return at most `PANELS` small charts, those of places that findings name first; and what is left out, in words.

    They stay in the order of execution.
    """
    if len(made) <= PANELS:
        return made, ""
    blamed = {finding.site_index for finding in report.findings}
    kept = sorted(range(len(made)), key=lambda k: made[k].site.index not in blamed)[:PANELS]
    named = ", those that findings name first" if blamed & {one.site.index for one in made} else ""
    return [made[k] for k in sorted(kept)], f"{PANELS} of {len(made)} places{named}"


def side_by_side(report: Report, made: list[data.Histogram], *, magnitudes: bool, step: int | None = None) -> Any:
    """Return histograms side by side with a slider over their steps; shown at first is `step`, else the first one.

    Raises NoStepError for a step that no histogram has.
    """
    alt = altair()
    if not made:
        return None
    made, left_out = chosen(report, made)
    steps = sorted({at for h in made for at in h.steps})
    if step is not None and step not in steps:
        near = sorted(sorted(steps, key=lambda at: abs(at - step))[:6])
        raise NoStepError(f"step {step:,} was not sampled; near it are {', '.join(map(str, near))}")
    rows = [row for h in made for frame in range(len(h.steps)) for row in histogram_rows(h, frame, steps)]
    bind = alt.binding_range(min=0, max=len(steps) - 1, step=1, name="sampled step ")
    slider = alt.param(name="frame", value=0 if step is None else steps.index(step), bind=bind)
    layers = histogram_layers(alt.Undefined, magnitudes=magnitudes)
    return (
        alt.layer(*layers.layer, note_above(alt), data=values(rows))
        .properties(width=220, height=110)
        .facet(facet=alt.Facet("name:N", sort=[h.name for h in made], header=_header(alt, left_out)), columns=3)
        .transform_filter("datum.frame <= frame && frame < datum.until")
        .resolve_scale(x="independent", y="independent")
        .add_params(slider)
    )


def _header(alt: Any, left_out: str) -> Any:
    """Return the heads of small charts, with one above all that says what is left out."""
    return alt.Header(title=left_out or None, titleAnchor="start", titleFontWeight="normal")


def note_above(alt: Any) -> Any:
    """Return a layer with the `note` of a small chart's rows, above it; what follows a semicolon on a second line."""
    note = alt.Chart().transform_aggregate(note="min(note)", groupby=["name"])
    up = alt.ExprRef(f"-{NOTE_HEIGHT} * (length(split(datum.note, '; ')) - 1)")
    label = note.mark_text(align="left", baseline="bottom", fontSize=10, lineHeight=NOTE_HEIGHT, lineBreak="; ", dy=up)
    return label.encode(x=alt.value(0), y=alt.value(-2), text="note:N")


def activation_histograms(report: Report, step: int | None = None) -> list[data.Histogram]:
    """Return the histograms of all activation functions' inputs, in order of execution; one of them that of `step`."""
    called = data.names(report.trace)
    sites = data.activations(report.trace)
    return [data.activation_histogram(report.trace, site, called[site.index], step) for site in sites]


def gradient_histograms(report: Report, step: int | None = None) -> list[data.Histogram]:
    """Return the histograms of all parameters' gradients, in order of execution; one of them that of `step`."""
    called = data.names(report.trace)
    sites = data.gradient_sites(report.trace)
    return [data.gradient_histogram(report.trace, site, called[site.index], step) for site in sites]


def unit_maps(report: Report) -> list[data.UnitMap]:
    """Return the maps of all activation functions whose units were told apart."""
    called = data.names(report.trace)
    found = [data.unit_map(report.trace, site, called[site.index]) for site in data.activations(report.trace)]
    return [made for made in found if made is not None]


def crowded(alt: Any) -> Any:
    """Return the axis of many sampled steps: level labels, as many as there is room for."""
    return alt.Axis(labelOverlap="greedy", labelSeparation=5, labelAngle=0)


def unit_layer(source: Any) -> Any:
    """Return a map of rows (unit, step, share): a white cell is a unit of whose elements all were saturated."""
    alt = altair()
    return (
        alt.Chart(source)
        .mark_rect()
        .encode(
            x=alt.X("step:O", title="sampled step", axis=crowded(alt)),
            y=alt.Y("unit:O", title="unit", axis=alt.Axis(labelOverlap="greedy")),
            color=alt.Color("share:Q", scale=alt.Scale(**GREYS), legend=None),
            tooltip=["unit:O", "step:O", alt.Tooltip("share:Q", format=".1%", title="saturated")],
        )
    )


def dead_units(report: Report) -> Any:
    """Return the maps of units side by side; None when the run has none."""
    alt = altair()
    maps, left_out = chosen(report, unit_maps(report))
    if not maps:
        return None
    rows = [
        {"name": made.name, "unit": unit, "step": step, "share": float(share), "note": made.note}
        for made in maps
        for unit, shares in zip(made.units, made.shares, strict=True)
        for step, share in zip(made.steps, shares, strict=True)
    ]
    return (
        alt.layer(unit_layer(alt.Undefined), note_above(alt), data=values(rows))
        .properties(width=220, height=160)
        .facet(facet=alt.Facet("name:N", sort=[made.name for made in maps], header=_header(alt, left_out)), columns=3)
        .resolve_scale(x="independent", y="independent")
    )
