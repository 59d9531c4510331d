"""Small charts, one a place: histograms at a step, maps of units. The page draws each apart, a chart all of them."""

from __future__ import annotations

from typing import Any

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


def histogram_rows(made: data.Histogram, frame: int) -> data.Rows:
    """Return the rows that `histogram_layers` draws for the k-th step of a histogram."""
    low, high = clipped_interval(made)
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
            "frame": frame,
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


def side_by_side(made: list[data.Histogram], *, magnitudes: bool) -> Any:
    """Return histograms side by side with a slider over their steps; the first one is shown at first."""
    alt = altair()
    if not made:
        return None
    rows = [row for h in made[:PANELS] for frame in range(len(h.steps)) for row in histogram_rows(h, frame)]
    last = max(len(h.steps) for h in made[:PANELS]) - 1
    slider = alt.param(name="frame", value=0, bind=alt.binding_range(min=0, max=last, step=1, name="sampled step "))
    layers = histogram_layers(alt.Undefined, magnitudes=magnitudes)
    return (
        alt.layer(*layers.layer, note_above(alt), data=values(rows))
        .properties(width=220, height=110)
        .facet(facet=alt.Facet("name:N", sort=[h.name for h in made[:PANELS]], title=None), columns=3)
        .transform_filter("datum.frame == frame")
        .resolve_scale(x="independent", y="independent")
        .add_params(slider)
    )


def note_above(alt: Any) -> Any:
    """Return a layer with the `note` of a small chart's rows, above it; what follows a semicolon on a second line."""
    note = alt.Chart().transform_aggregate(note="min(note)", groupby=["name"])
    up = alt.ExprRef(f"-{NOTE_HEIGHT} * (length(split(datum.note, '; ')) - 1)")
    label = note.mark_text(align="left", baseline="bottom", fontSize=10, lineHeight=NOTE_HEIGHT, lineBreak="; ", dy=up)
    return label.encode(x=alt.value(0), y=alt.value(-2), text="note:N")


def activation_histograms(report: Report) -> list[data.Histogram]:
    """Return the histograms of all activation functions' inputs, in order of execution."""
    called = data.names(report.trace)
    sites = data.activations(report.trace)
    return [data.activation_histogram(report.trace, site, called[site.index]) for site in sites]


def gradient_histograms(report: Report) -> list[data.Histogram]:
    """Return the histograms of all parameters' gradients, in order of execution."""
    called = data.names(report.trace)
    sites = data.gradient_sites(report.trace)
    return [data.gradient_histogram(report.trace, site, called[site.index]) for site in sites]


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
    maps = unit_maps(report)[:PANELS]
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
        .facet(facet=alt.Facet("name:N", sort=[made.name for made in maps], title=None), columns=3)
        .resolve_scale(x="independent", y="independent")
    )
