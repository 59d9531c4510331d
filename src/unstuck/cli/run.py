"""`unstuck run SCRIPT`: watch an unmodified script, judge it, explain."""

from __future__ import annotations

import contextlib
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unstuck.api import Run
from unstuck.capture.script import Outcome, ScriptError, read_script, run_script, stdout_to_stderr
from unstuck.cli.errors import USAGE, fail, writable_folder
from unstuck.config import ConfigError, load
from unstuck.report import Report
from unstuck.rules.catalogue import UnknownRuleError

CONTEXT = {"allow_interspersed_args": False, "ignore_unknown_options": False}


class OutputFormat(StrEnum):
    """Renderings that `run` can print."""

    TEXT = "text"
    JSON = "json"


def run(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The Python script to run, unchanged.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Arguments of the script, passed on as they are.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, metavar="N", help="End the training after N updates and report.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend the initialisation during the first forward pass, and say what changed.")
    ] = False,
    output_format: Annotated[
        OutputFormat,
        typer.Option(
            "--output-format", help="json: the report alone on standard output, the script's on standard error."
        ),
    ] = OutputFormat.TEXT,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Also write report.json and report.txt to DIR.")
    ] = None,
    every: Annotated[
        int | None, typer.Option("--every", min=1, metavar="N", help="Sample each N-th step (default: ever fewer).")
    ] = None,
    select: Annotated[
        str | None,
        typer.Option("--select", metavar="CODES", help="Judge by these rules alone (codes or prefixes, A001,L)."),
    ] = None,
    ignore: Annotated[
        str | None, typer.Option("--ignore", metavar="CODES", help="Leave these rules out (codes or prefixes).")
    ] = None,
) -> None:
    """Run SCRIPT as `python SCRIPT ARGS...` would, watch it train, and report why it does not.

    Options of unstuck stand before SCRIPT; everything after it belongs to the script. The exit code is the script's
    own, or 2 when it never trained.
    """
    try:
        config = load(every=every, select=select, ignore=ignore)
        watched = Run(config, fix=fix, max_steps=steps, title=script.name)
        read_script(script)
    except (ConfigError, UnknownRuleError, ScriptError) as error:
        fail(error)
    if save is not None:
        save = writable_folder(save.absolute(), "the report")  # the script may change the current folder
    watched.command = (str(script), *(arguments or []))
    quiet = stdout_to_stderr() if output_format is OutputFormat.JSON else contextlib.nullcontext()
    with quiet, watched:
        outcome = run_script(script, arguments or [], restore=False)
    watched.exit_code, watched.stopped = outcome.exit_code, outcome.stopped
    report = watched.report()
    if save is not None:
        _save(report, save)
    _print(report, output_format)
    raise typer.Exit(_exit_code(report, outcome))


def _print(report: Report, output_format: OutputFormat) -> None:
    stream = sys.stderr if sys.stdout is None or sys.stdout.closed else sys.stdout  # a script may have closed it
    if output_format is OutputFormat.JSON:
        typer.echo(report.render("json"), nl=False, file=stream)
        return
    color = stream.isatty()
    typer.echo("\n" + report.render("text", width=_width(), color=color), nl=False, color=color, file=stream)


def _width() -> int:
    return min(120, shutil.get_terminal_size((100, 24)).columns)


def _save(report: Report, folder: Path) -> None:
    try:
        paths = report.save(folder)
    except OSError as error:
        fail(f"cannot write the report to {folder}: {error.strerror}")
    typer.echo(f"report saved: {', '.join(str(path) for path in paths)}", err=True)


def _exit_code(report: Report, outcome: Outcome) -> int:
    if outcome.exit_code == 0 and not report.trace.facts.backward_calls:
        typer.echo(
            "unstuck: no backward pass was seen, so there is nothing to judge; name the script that trains", err=True
        )
        return USAGE
    return outcome.exit_code
