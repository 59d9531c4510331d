"""`unstuck lm ladder`: the lecture's stages with many seeds at once, and what each is worth."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from unstuck.cli import lm_deep
from unstuck.cli.errors import fail, writable_folder
from unstuck.cli.lm_charts import draw_deep, draw_ladder
from unstuck.cli.lm_common import Data, choice, note, one_line_errors, use_threads
from unstuck.lm.data import SHIPPED, WordList, read_words
from unstuck.lm.deep import STEPS as DEEP
from unstuck.lm.errors import LmError, require_choice
from unstuck.lm.interrupts import deferred_interrupt
from unstuck.lm.ladder import ENGINES, Ladder, Plan, Results, engine_of
from unstuck.lm.ladder_store import RESULTS, load_runs, open_folder, save_json, save_runs
from unstuck.lm.ladder_table import as_data, render, why_incomparable
from unstuck.lm.ranks import Ranks, cores, joined
from unstuck.lm.stages import STAGES, STEPS, stages_of
from unstuck.report.style import MISSING, installed

FORMATS = ("text", "markdown", "json")
ALL = ",".join(STAGES)
SAVE_EVERY = 30.0  # seconds
FELT = 3.0  # seconds
A_THREAD = 4  # runs that a thread takes a block further before Ctrl-C is asked for: 0.2 s

Chosen = Annotated[
    str | None, typer.Option("--stages", metavar="A,B,…", help=f"Some of {', '.join(STAGES)}, or 1-5. Default: all.")
]
Seeds = Annotated[int | None, typer.Option(help="Runs of each stage, with the seeds 0, 1, … Default: 8.")]
Steps = Annotated[
    int | None,
    typer.Option(
        help=f"Steps of each run; the learning rate falls at their half. Default: {STEPS}; with --deep {DEEP}."
    ),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to save in, and to go on from if it has runs.")]
Charts = Annotated[Path | None, typer.Option(metavar="DIR", help="Also draw the charts, into DIR (extra html).")]
EngineName = Annotated[
    str | None, choice(ENGINES, "compiled (the default): by numba; torch: stacked tensors, slower, for comparison.")
]
Threads = Annotated[int | None, typer.Option(help="Runs computed at a time. Default: one a core.")]
Format = Annotated[str, choice(FORMATS, "How the tables are printed.")]
Deep = Annotated[
    bool, typer.Option("--deep", help="Six layers of tanh instead, gains 1, 5/3, 3, with and without BatchNorm.")
]


def ladder(
    stages: Chosen = None,
    seeds: Seeds = None,
    steps: Steps = None,
    data: Data = None,
    out: Out = None,
    charts: Charts = None,
    engine: EngineName = None,
    threads: Threads = None,
    deep: Deep = False,
    output_format: Format = "text",
) -> None:
    """Train the lecture's five stages with many seeds side by side and tell which of its steps is real.

    Prints each stage's losses with 95 % intervals, beside the lecture's own, and the differences between stages.
    Ctrl-C saves to --out; the same command goes on from there. Under torchrun the runs are shared out.
    """
    with one_line_errors():
        require_choice("--output-format", output_format, FORMATS)
        _check_charts(charts)
        if deep:
            _refuse_with_deep({"--stages": stages, "--seeds": seeds, "--engine": engine, "--threads": threads})
            words = read_words(data or SHIPPED)
            with use_threads(1):
                runs = lm_deep.deep(words, DEEP if steps is None else steps, out, output_format)
            _draw(charts, lambda folder: draw_deep(runs, folder))
            return
        plan = Plan(
            stages_of(ALL if stages is None else stages),
            8 if seeds is None else seeds,
            STEPS if steps is None else steps,
        )
        count = cores() if threads is None else threads
        name = engine or ENGINES[0]
        require_choice("--engine", name, ENGINES)
        words = read_words(data or SHIPPED)
        with joined() as ranks, use_threads(count):
            results = _results(Ladder(plan, words, ranks), words, name, count, out)
        if ranks.rank == 0:
            compared = _show(results, words, out, output_format)
            _draw(charts, lambda folder: draw_ladder(results, compared, folder))


def _refuse_with_deep(given: dict[str, object]) -> None:
    for option, value in given.items():
        if value is not None:
            raise LmError(f"{option} does nothing with --deep: leave it out")


def _check_charts(folder: Path | None) -> None:
    """Find out before any work whether the charts can be drawn."""
    if folder is None:
        return
    if not installed():
        fail(MISSING)
    writable_folder(folder, "the charts")


def _draw(folder: Path | None, write: Callable[[Path], list[Path]]) -> None:
    if folder is not None:
        paths = write(folder)
        note(f"{len(paths)} files in {folder}: {', '.join(path.stem for path in paths if path.suffix == '.png')}")


def _results(runs: Ladder, words: WordList, engine: str, threads: int, out: Path | None) -> Results:
    """Train what `out` has not, and gather; leaves with 130 after Ctrl-C."""
    if out:
        open_folder(out, words, runs.plan.steps)
        load_runs(out, runs.runs, runs.plan.steps)
    _train(runs, engine, threads, out)
    if not runs.ranks.all(runs.steps_left == 0):
        _stop(runs.ranks, out)
    return runs.results()


def _train(runs: Ladder, engine: str, threads: int, out: Path | None) -> None:
    """Do the steps that are left, until Ctrl-C, and save."""
    left = runs.steps_left
    if engine == "compiled" and left:
        _prepare(runs.ranks)
    saved = begun = time.perf_counter()
    with deferred_interrupt() as interrupt, _Bar(runs) as bar:

        def on_block(model_steps: int) -> None:
            nonlocal saved
            bar.update(model_steps)
            if out and time.perf_counter() - saved > SAVE_EVERY:
                save_runs(out, runs.runs)
                saved = time.perf_counter()

        at_once = threads * A_THREAD if engine == "compiled" else None
        runs.train(engine_of(engine), threads, at_once, on_block, lambda: interrupt.asked)
    if out and runs.steps_left < left:
        save_runs(out, runs.runs)
    if runs.ranks.rank == 0:
        _report(left - runs.steps_left, time.perf_counter() - begun, runs, threads)


def _prepare(ranks: Ranks) -> None:
    """Compile, so that no rate counts it, and say so when it was to be felt."""
    from unstuck.lm.compiled import prepare

    seconds = prepare()
    if seconds > FELT and ranks.rank == 0:
        note(f"compiled the training steps in {seconds:.0f} s; the next run finds them on the disk")


def _report(done: int, seconds: float, held: Ladder, threads: int) -> None:
    runs = len(held.runs)
    of = f"{runs} run{'s' if runs > 1 else ''}" + (" of this process" if held.ranks.size > 1 else "")
    if done:
        each = f"{seconds / done * 1e6:.1f} µs a model-step, {threads} at a time"
        note(f"{done:,} model-steps of {of} in {seconds:.1f} s ({each})")
    else:
        note(f"{of} trained before: nothing left to do")


def _stop(ranks: Ranks, out: Path | None) -> NoReturn:
    if ranks.rank == 0:
        saved = f"saved to {out}: the same command goes on from there" if out else "nothing saved: give --out DIR"
        note(f"interrupted, {saved}")
    raise typer.Exit(130)


def _show(results: Results, words: WordList, out: Path | None, output_format: str) -> bool:
    """Print and save the tables; returns whether the lecture's losses stand in them."""
    incomparable = why_incomparable(words.words, results.plan.steps)
    data = as_data(results, incomparable, words.source, words.sha256)
    if output_format == "json":
        typer.echo(json.dumps(data, indent=1))
    else:
        typer.echo(render(results, incomparable, markdown=output_format == "markdown"))
    if out:
        note(f"numbers of every run in {save_json(out / RESULTS, data)}")
    return not incomparable


class _Bar:
    """A progress bar of model-steps; silent where standard error is no terminal, and in all processes but one."""

    def __init__(self, runs: Ladder) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} model-steps"),
            BarColumn(),
            TextColumn("{task.fields[rate]:,.0f} a second"),
            TimeRemainingColumn(),
        )
        hidden = not console.is_terminal or runs.ranks.rank > 0
        self.progress = Progress(*columns, console=console, disable=hidden, transient=True)
        total = len(runs.runs) * runs.plan.steps
        self.task = self.progress.add_task("", total=total, completed=total - runs.steps_left, rate=0.0)
        self.done, self.begun = 0, time.perf_counter()

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, model_steps: int) -> None:
        """Note what was done."""
        self.done += model_steps
        rate = self.done / (time.perf_counter() - self.begun)
        self.progress.update(self.task, advance=model_steps, rate=rate)
