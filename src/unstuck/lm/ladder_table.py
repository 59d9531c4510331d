"""What a ladder's runs say: a row a stage, a row a step between stages, and both as text, Markdown or plain data.

Differences are taken seed by seed: runs of one seed share draws and batches, and what they share falls out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from unstuck.lm.ladder import Results
from unstuck.lm.ladder_measures import Measured
from unstuck.lm.stages import STEPS, Stage, is_lectures
from unstuck.lm.statistics import Estimate, estimate
from unstuck.lm.tables import draw

SPLIT = {
    "lines": "Split 80/10/10 by line, as in the lecture.",
    "words": "Split 80/10/10 by distinct word.",
}
NEITHER, IN_RUNS, IN_MEAN = "outside", "in runs", "in mean"


@dataclass(frozen=True)
class StageRow:
    """A stage's runs: means at the start and at the end, losses with their intervals."""

    stage: Stage
    start_loss: float
    start_saturated: float
    start_dead: float
    train: Estimate
    val: Estimate
    saturated: float
    dead: float


@dataclass(frozen=True)
class StepRow:
    """What a stage changes against the one before it: later minus earlier, by seed, in nats."""

    earlier: Stage
    later: Stage
    train: Estimate
    val: Estimate


def stage_rows(results: Results) -> list[StageRow]:
    """A row a stage, in the lecture's order."""
    rows = []
    for stage in results.plan.stages:
        runs = _runs(results, stage)
        means = {name: math.fsum(getattr(run, name) for run in runs) / len(runs) for name in Measured.__annotations__}
        intervals = {name: estimate([getattr(run, name) for run in runs]) for name in ("train", "val")}
        rows.append(StageRow(stage, **{**means, **intervals}))  # type: ignore[arg-type]
    return rows


def step_rows(results: Results) -> list[StepRow]:
    """A row for each two stages that follow one another."""
    rows = []
    for earlier, later in pairwise(results.plan.stages):
        pairs = list(zip(_runs(results, earlier), _runs(results, later), strict=True))
        train, val = (estimate([getattr(b, part) - getattr(a, part) for a, b in pairs]) for part in ("train", "val"))
        rows.append(StepRow(earlier, later, train, val))
    return rows


def _runs(results: Results, stage: Stage) -> list[Measured]:
    return [results.measured[stage.name, seed] for seed in range(results.plan.seeds)]


def why_incomparable(words: Sequence[str], steps: int) -> str:
    """Why the lecture's losses do not stand beside these runs'; empty where they do."""
    if not is_lectures(words):
        return "the lecture's losses are of its own list of 32,033 names, which this is not"
    if steps != STEPS:
        return f"the lecture's losses are of {STEPS:,} steps, these of {steps:,}"
    return ""


def render(results: Results, incomparable: str, *, markdown: bool = False) -> str:
    """The two tables and how to read them; lines end with no newline at the very end."""
    seeds, steps = results.plan.seeds, step_rows(results)
    stages = draw(*_stage_table(stage_rows(results), not incomparable), markdown=markdown)
    parts = [stages, _reading(seeds, incomparable, results.split)]
    if steps:
        parts += [draw(*_step_table(steps, seeds), markdown=markdown), _reading_steps(seeds)]
    return "\n\n".join(parts)


def as_data(results: Results, incomparable: str, words: str, sha256: str) -> dict[str, Any]:
    """Everything as JSON's types; losses in nats, `half` and `one_run` as in `Estimate`."""
    stages = []
    for row in stage_rows(results):
        held: dict[str, Any] = {key: value for key, value in asdict(row).items() if key != "stage"}
        if not incomparable:
            held["lecture"] = {
                part: {"loss": getattr(row.stage, part), "lies": _place(getattr(row, part), getattr(row.stage, part))}
                for part in ("train", "val")
            }
        runs = [{"seed": seed, **asdict(run)} for seed, run in enumerate(_runs(results, row.stage))]
        stages.append({"stage": row.stage.name, **held, "runs": runs})
    steps = [
        {"earlier": row.earlier.name, "later": row.later.name, "train": asdict(row.train), "val": asdict(row.val)}
        for row in step_rows(results)
    ]
    data: dict[str, Any] = finite(
        {
            "data": {"source": words, "sha256": sha256, "split": results.split},
            "steps": results.plan.steps,
            "seeds": results.plan.seeds,
            "incomparable": incomparable or None,
            "stages": stages,
            "differences": steps,
        }
    )
    return data


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, dict):
        return {key: finite(held) for key, held in value.items()}
    if isinstance(value, list):
        return [finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _place(found: Estimate, published: str) -> str | None:
    """Where the lecture's loss lies; None for a single seed, which has no interval."""
    if math.isnan(found.half):
        return None
    if found.holds(published):
        return IN_MEAN
    return IN_RUNS if found.holds_run(published) else NEITHER


def _stage_table(rows: list[StageRow], compared: bool) -> tuple[list[str], list[list[str]]]:
    header = ["stage", "loss at step 0", "saturated", "dead"]
    for part in ("train", "validation"):
        header += [part, "lecture"] if compared else [part]
    lines = []
    for row in rows:
        line = [row.stage.name, f"{row.start_loss:.2f}", _arrow(row.start_saturated, row.saturated, "{:.1%}")]
        line.append(_arrow(row.start_dead, row.dead, "{:.1f}"))
        for part in ("train", "val"):
            found, published = getattr(row, part), getattr(row.stage, part)
            line.append(_interval(found))
            if compared:
                line.append(" ".join(filter(None, (published, _place(found, published)))))
        lines.append(line)
    return header, lines


def _step_table(rows: list[StepRow], seeds: int) -> tuple[list[str], list[list[str]]]:
    verdicts = {-1: "better", 1: "worse", 0: "not told from 0" if seeds > 1 else "one seed: no telling"}
    header = ["step", "train", "validation", "on validation"]
    return header, [
        [f"{row.earlier.name} → {row.later.name}", _signed(row.train), _signed(row.val), verdicts[row.val.sign]]
        for row in rows
    ]


def _arrow(start: float, end: float, form: str) -> str:
    return f"{form.format(start)} → {form.format(end)}"


def _interval(found: Estimate) -> str:
    return f"{found.mean:.4f}" + ("" if math.isnan(found.half) else f" ± {found.half:.4f}")


def _signed(found: Estimate) -> str:
    return f"{found.mean:+.4f}" + ("" if math.isnan(found.half) else f" ± {found.half:.4f}")


def _reading(seeds: int, incomparable: str, split: str) -> str:
    lines = [
        "Losses in nats"
        + (f": mean ± 95 % interval (Student's t) over {seeds} seeds." if seeds > 1 else " of one seed.")
        + f" {SPLIT[split]}",
        "Saturated (|tanh| > 0.99) and dead units (saturated on every example): first batch → training set at the end.",
    ]
    if incomparable:
        lines.append(f"No column for the lecture: {incomparable}.")
    elif seeds == 1:
        lines.append("Lecture: the loss of its one run; whether these agree cannot be told from one seed.")
    else:
        lines += [
            f'Lecture: the loss of its one run. "{IN_MEAN}": it lies in the interval of the mean, widened by what the',
            f'loss was rounded by (half a unit of its last digit); "{IN_RUNS}": only in the interval that holds 95 %',
            f'of further single runs, widened alike; "{NEITHER}": in neither.',
        ]
    return "\n".join(lines)


def _reading_steps(seeds: int) -> str:
    if seeds == 1:
        return "Later minus earlier stage in nats; what a stage changes cannot be told from one seed."
    return (
        f"Later minus earlier stage, nats, paired by seed: mean ± 95 % interval over {seeds} seeds. Of 20 steps that\n"
        "change nothing, one is expected to be called better or worse."
    )
