"""The charts of `unstuck lm ladder`, as Vega-Lite made by Altair (https://altair-viz.github.io); needs extra `html`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.lm.deep import GAINS, LAYERS, DeepRun
from unstuck.lm.ladder import Results
from unstuck.lm.ladder_table import stage_rows, step_rows
from unstuck.lm.stages import BLOCK
from unstuck.report.charts import save
from unstuck.report.style import BLUE, COLOURS, GREY, HEIGHT, ORANGE, RED, WIDTH, altair, unvalidated, values

POINTS = 250  # of a line: each stands for the steps up to the next one
TITLE = "validation loss (nats)"
PANEL = {"width": 230, "height": 150}
GUIDE = -3.0  # log10 of update-to-data; Karpathy 2022, https://github.com/karpathy/nn-zero-to-hero (lecture 4)


def draw_ladder(results: Results, compared: bool, folder: Path) -> list[Path]:
    """Write loss, validation and differences as PNG and SVG; `compared`: with the lecture's own losses.

    Runs that diverged are left out, and charts for which no numbers are left. Raises ImportError without the extra,
    OSError where `folder` cannot be written.
    """
    charts = {
        "loss": _loss(results),
        "validation": _validation(results, compared),
        "differences": _differences(results),
    }
    return _write("ladder", {name: chart for name, chart in charts.items() if chart is not None}, folder)


def draw_deep(runs: Sequence[DeepRun], folder: Path) -> list[Path]:
    """Write the lecture's four diagnostic plots, a panel a run, as PNG and SVG; raises as `draw_ladder`."""
    charts = {
        name.replace(" ", "-"): _histograms(runs, name, title)
        for name, title in (
            ("activations", "tanh output at step 0"),
            ("gradients", "gradient at the tanh output, step 0"),
            ("weight gradients", "gradient of the weights, step 0"),
        )
    }
    return _write("deep", {**charts, "updates": _updates(runs)}, folder)


def _write(prefix: str, charts: dict[str, Any], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with unvalidated():
        for name, chart in charts.items():
            finished = chart.configure_view(stroke=GREY).configure_axis(gridOpacity=0.4, labelLimit=300)
            for ending in ("png", "svg"):
                paths.append(folder / f"{prefix}-{name}.{ending}")
                save(finished, paths[-1])
    return paths


def _order(results: Results) -> list[str]:
    return [stage.name for stage in results.plan.stages]


def _loss(results: Results) -> Any:
    """The mean over the seeds of the training loss, a line a stage."""
    alt = altair()
    rows: list[dict[str, Any]] = []
    for stage in results.plan.stages:
        curve = np.mean([results.curves[stage.name, seed] for seed in range(results.plan.seeds)], axis=0)
        for part in np.array_split(np.arange(len(curve)), min(POINTS, len(curve))):
            step = min((part[-1] + 1) * BLOCK, results.plan.steps)
            rows.append({"stage": stage.name, "step": int(step), "loss": float(curve[part].mean())})
    shown = [row for row in rows if math.isfinite(row["loss"])]
    if not shown:
        return None
    stages = _order(results)
    low, high = min(row["loss"] for row in shown), float(np.quantile([row["loss"] for row in shown], 0.99))
    scale = alt.Scale(type="log", nice=False, domain=[0.995 * low, 1.02 * high])
    line = alt.Chart(values(shown)).mark_line(clip=True, strokeWidth=1.6)
    return line.encode(
        x=alt.X("step:Q", axis=alt.Axis(format=",d")),
        y=alt.Y("loss:Q", title="training loss (nats), mean of the seeds", scale=scale, axis=alt.Axis(format="~r")),
        color=alt.Color("stage:N", scale=alt.Scale(domain=stages, range=list(COLOURS[: len(stages)])), title=None),
        strokeDash=alt.StrokeDash("stage:N", scale=alt.Scale(domain=stages), title=None),
    ).properties(width=WIDTH, height=HEIGHT, title="Training loss of each stage")


def _validation(results: Results, compared: bool) -> Any:
    """Every seed's validation loss, the mean with its interval and the lecture's loss, a row a stage."""
    alt = altair()
    kinds = ["one seed", "mean ± 95 %", *(["the lecture's run"] if compared else [])]
    rows: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    for row in stage_rows(results):
        name = row.stage.name
        seeds = [results.measured[name, seed].val for seed in range(results.plan.seeds)]
        rows += [{"stage": name, "kind": kinds[0], "loss": loss} for loss in seeds]
        rows.append({"stage": name, "kind": kinds[1], "loss": row.val.mean})
        if compared:
            rows.append({"stage": name, "kind": kinds[2], "loss": float(row.stage.val)})
        if math.isfinite(row.val.half):
            bars.append({"stage": name, "low": row.val.mean - row.val.half, "high": row.val.mean + row.val.half})
    rows = [row for row in rows if math.isfinite(row["loss"])]
    scale = alt.Scale(zero=False, nice=True)
    x = alt.X("loss:Q", title=TITLE, scale=scale)
    y = alt.Y("stage:N", sort=_order(results), title=None)
    look = {"domain": kinds, "range": [GREY, BLUE, ORANGE][: len(kinds)]}
    shapes = {"domain": kinds, "range": ["circle", "square", "diamond"][: len(kinds)]}
    points = alt.Chart(values(rows)).mark_point(size=70, filled=False, strokeWidth=2)
    shown = points.encode(
        x=x,
        y=y,
        color=alt.Color("kind:N", scale=alt.Scale(**look), title=None),
        shape=alt.Shape("kind:N", scale=alt.Scale(**shapes), title=None),
    )
    bar = alt.Chart(values(bars)).mark_rule(color=BLUE, strokeWidth=4, opacity=0.6)
    layers = bar.encode(x=alt.X("low:Q", title=TITLE, scale=scale), x2="high:Q", y=y) + shown if bars else shown
    return layers.properties(width=WIDTH, height=alt.Step(40), title="Validation loss of each stage")


def _differences(results: Results) -> Any:
    """What each stage changes, with its interval, on training and validation data."""
    alt = altair()
    rows: list[dict[str, Any]] = []
    order: list[str] = []
    for step in step_rows(results):
        order.append(f"{step.earlier.name} → {step.later.name}")
        for part, found in (("train", step.train), ("validation", step.val)):
            ends = {"low": found.mean - found.half, "high": found.mean + found.half}
            rows.append({"step": order[-1], "part": part, "change": found.mean, **ends})
    shown = [row for row in rows if all(math.isfinite(row[end]) for end in ("low", "high"))]
    if not shown:
        return None
    base = alt.Chart(values(shown)).encode(
        y=alt.Y("step:N", sort=order, title=None),
        yOffset=alt.YOffset("part:N"),
        color=alt.Color("part:N", scale=alt.Scale(domain=["train", "validation"], range=[BLUE, ORANGE]), title=None),
    )
    title = "change of the loss (nats), paired by seed: mean ± 95 %; left of 0 is better"
    bar = base.mark_rule(strokeWidth=3).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    shapes = alt.Shape("part:N", scale=alt.Scale(domain=["train", "validation"], range=["circle", "diamond"]))
    point = base.mark_point(size=60, filled=True, opacity=1).encode(x="change:Q", shape=shapes)
    zero = alt.Chart(values([{"at": 0}])).mark_rule(color=RED, strokeDash=[6, 4]).encode(x="at:Q")
    return (zero + bar + point).properties(
        width=WIDTH, height=alt.Step(22), title="What each step of the lecture changes"
    )


def _histograms(runs: Sequence[DeepRun], name: str, title: str) -> Any:
    rows: list[dict[str, Any]] = []
    for run in runs:
        for number, histogram in enumerate(run.histograms[name], 1):
            middles = (histogram.edges[1:] + histogram.edges[:-1]) / 2
            rows += [
                {**_panel(run), "layer": number, "value": float(x), "density": float(y)}
                for x, y in zip(middles, histogram.density, strict=True)
            ]
    alt = altair()
    x = alt.X("value:Q", title=None, axis=alt.Axis(tickCount=4, format="~g"))
    y = alt.Y("density:Q", title="density", axis=alt.Axis(tickCount=4, format="~g"))
    return _panels(rows, x, y).properties(title=f"{title[0].upper()}{title[1:]}")


def _hidden_range(rows: list[dict[str, Any]]) -> list[float]:
    """Where the hidden layers' values lie: the output layer's weight gradients are many times wider."""
    held = [row["value"] for row in rows if row["layer"] < LAYERS]
    return [min(held), max(held)]


def _updates(runs: Sequence[DeepRun]) -> Any:
    rows: list[dict[str, Any]] = []
    for run in runs:
        for layer in range(run.updates.shape[1]):
            for part in np.array_split(np.arange(len(run.updates)), min(POINTS, len(run.updates))):
                mean = float(run.updates[part, layer].mean())
                rows.append({**_panel(run), "layer": layer + 1, "step": int(part[0]), "log10": mean})
    alt = altair()
    x = alt.X("step:Q", title="step", axis=alt.Axis(tickCount=5, format=",d"))
    shown = [row for row in rows if math.isfinite(row["log10"])]
    heights = [GUIDE, *(row["log10"] for row in shown)]
    y = alt.Y("log10:Q", title="log10 update:data", scale=alt.Scale(domain=[min(heights) - 0.2, max(heights) + 0.2]))
    return _panels(shown, x, y, guide=True).properties(title="Update to data by weight layer; dashed: 1e-3")


def _panel(run: DeepRun) -> dict[str, str]:
    return {"gain": f"gain {run.gain}", "norm": "BatchNorm" if run.norm else "no norm"}


def _panels(rows: list[dict[str, Any]], x: Any, y: Any, *, guide: bool = False) -> Any:
    """A line a layer in a panel a run: gains side by side, with BatchNorm below."""
    alt = altair()
    numbers = sorted({row["layer"] for row in rows})
    parts = []
    for norm, gain in product(("no norm", "BatchNorm"), GAINS):
        held = [row for row in rows if (row["norm"], row["gain"]) == (norm, f"gain {gain}")]
        chart = alt.Chart(values(held), title=f"gain {gain}, {norm}").mark_line(strokeWidth=1.4, clip=True)
        layer = alt.Color("layer:O", scale=alt.Scale(scheme="viridis", domain=numbers), title="layer")
        across = x if guide else x.scale(domain=_hidden_range(held), nice=False)
        panel = chart.encode(x=across, y=y, color=layer)
        if guide:
            rule = alt.Chart(values([{"guide": GUIDE}])).mark_rule(color=RED, strokeDash=[6, 4]).encode(y="guide:Q")
            panel = panel + rule
        parts.append(panel.properties(**PANEL))
    return alt.concat(*parts, columns=len(GAINS), spacing=14)
