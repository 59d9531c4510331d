"""`unstuck lm ladder --deep`: the lecture's deep network under six initialisations, measured layer by layer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from unstuck.cli.lm_common import note
from unstuck.lm.data import WordList
from unstuck.lm.deep import LAST, DeepRun, deep_table, run_deep
from unstuck.lm.ladder_store import save_json
from unstuck.lm.ladder_table import SPLIT, finite
from unstuck.lm.stages import split_by
from unstuck.lm.tables import draw

FILE = "deep.json"
READING = (
    "Of each tanh layer at step 0: share of |tanh| > 0.97, std of its output and of the loss's gradient there. Of\n"
    "each weight matrix: std(gradient) / std(weights) at step 0, and log10 of std(update) / std(weights), mean of the\n"
    "last {last} steps; about -3 is usual."
)


def deep(words: WordList, steps: int, out: Path | None, output_format: str) -> list[DeepRun]:
    """Run, print and save; raises LmError, and leaves with 130 after Ctrl-C."""
    try:
        runs = run_deep(words, steps, on_run=lambda title: note(f"{title}: {steps:,} step{'s' if steps > 1 else ''}"))
    except KeyboardInterrupt:
        note("interrupted, nothing is saved")
        raise typer.Exit(130) from None
    layers = [
        {"gain": run.gain, "batchnorm": run.norm, "layers": [finite(asdict(layer)) for layer in run.layers]}
        for run in runs
    ]
    split = split_by(words.words)
    data = {"data": {"source": words.source, "sha256": words.sha256, "split": split}, "steps": steps, "runs": layers}
    if output_format == "json":
        typer.echo(json.dumps(data, indent=1))
    else:
        table = draw(*deep_table(runs), markdown=output_format == "markdown")
        typer.echo(f"{table}\n\n{READING.format(last=min(LAST, steps))}\n{SPLIT[split]}")
    if out:
        note(f"numbers of every layer in {save_json(out / FILE, data)}")
    return runs
