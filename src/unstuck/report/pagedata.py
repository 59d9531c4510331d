"""The numbers of the page as JSON: whole charts as their descriptions, small ones as one description and many rows."""

from __future__ import annotations

import json
import math
import string
from typing import Any

from unstuck.report import chartdata as data
from unstuck.report import charts, panels
from unstuck.report.report import Report
from unstuck.report.style import altair, unvalidated

DIGITS = string.digits + string.ascii_lowercase
WHOLE = len(DIGITS) - 1  # of a unit's share, rounded down: the last digit is the whole of the unit


def numbers(report: Report) -> dict[str, Any]:
    """Return what the page's script draws: `charts` by name, `cards` by name, both only where there is something."""
    with unvalidated():
        return _numbers(report)


def _numbers(report: Report) -> dict[str, Any]:
    whole = {name: packed(made) for name, made in charts.available(report)}
    histograms = {
        "activations": (panels.activation_histograms(report), False),
        "gradients": (panels.gradient_histograms(report), True),
    }
    cards = {
        name: histogram_cards(made, magnitudes=magnitudes) for name, (made, magnitudes) in histograms.items() if made
    }
    maps = panels.unit_maps(report)
    if maps:
        source = altair().NamedData(name="cells")
        cards["dead-units"] = {"template": _spec(panels.unit_layer(source)), "cards": [_units(made) for made in maps]}
    return {"charts": whole, "cards": cards}


def histogram_cards(made: list[data.Histogram], *, magnitudes: bool) -> dict[str, Any]:
    """Return histograms as the page's script draws them: one description, and of each what is its own."""
    source = altair().NamedData(name="cells")
    with unvalidated():
        template = _spec(panels.histogram_layers(source, magnitudes=magnitudes))
    return {"template": template, "cards": [_histogram(one) for one in made]}


def as_json(content: Any) -> str:
    """Return JSON that may stand in a script element, whatever strings it holds: ASCII, without <, > and &."""
    try:
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    except ValueError:  # a number is not finite, and the whole must be gone through
        text = json.dumps(_finite(content), separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _spec(made: Any) -> dict[str, Any]:
    """Return a chart's description; its parameters lose their widgets, for the page has its own."""
    spec: dict[str, Any] = made.to_dict(validate=False)
    for parameter in spec.get("params", []):
        parameter.pop("bind", None)
    for unused in ("$schema", "config"):
        spec.pop(unused, None)
    return spec


def packed(made: Any) -> dict[str, Any]:
    """Return a chart's description and apart from it its data, each table once."""
    tables: list[data.Rows] = []

    def lifted(part: Any) -> Any:
        if isinstance(part, list):
            return [lifted(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "values" in part.get("data", ()):
            rows = part["data"]["values"]
            if rows not in tables:
                tables.append(rows)
            part = {**part, "data": {"name": f"rows{tables.index(rows)}"}}
        return {key: lifted(item) for key, item in part.items()}

    spec = lifted(_spec(made))
    return {"spec": spec, "datasets": {f"rows{k}": _columns(rows) for k, rows in enumerate(tables)}}


def _columns(rows: data.Rows) -> dict[str, Any]:
    """Return rows as lists in the order of `fields`; each string once in `names`, its number in the rows."""
    fields = list(dict.fromkeys(field for row in rows for field in row))
    texts = [any(isinstance(row.get(field), str) for row in rows) for field in fields]
    index: dict[Any, int] = {}
    packed = [
        [
            index.setdefault(row.get(f), len(index)) if text else row.get(f)
            for f, text in zip(fields, texts, strict=True)
        ]
        for row in rows
    ]
    return {"fields": fields, "texts": texts, "names": list(index), "rows": packed}


def _histogram(made: data.Histogram) -> dict[str, Any]:
    low, high = panels.clipped_interval(made)
    return {
        "name": made.name,
        "from": float(f"{made.edges[0]:.5g}"),
        "width": float(f"{made.edges[1] - made.edges[0]:.5g}"),
        "low": low,
        "high": high,
        "switch": data.is_rectifier(made.site),
        "steps": list(made.steps),
        "notes": list(made.notes),
        "shares": (made.shares * 1e3).round().astype(int).tolist(),
    }


def _units(made: data.UnitMap) -> dict[str, Any]:
    return {
        "name": made.name,
        "note": made.note,
        "steps": list(made.steps),
        "units": list(made.units),
        "cells": ["".join(DIGITS[int(share * WHOLE)] for share in unit) for unit in made.shares.tolist()],
    }
