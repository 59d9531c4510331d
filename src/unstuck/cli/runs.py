"""`unstuck runs`: the stored runs, and deleting old ones."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from unstuck.cli.errors import NO_FOLDER, USAGE, fail
from unstuck.config import ConfigError, load
from unstuck.escape import no_commands, one_line
from unstuck.runs import FOLDER, Listed, listed, remove

KILOBYTE = 1 << 10


def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to look [here, in .unstuck/runs and */run.sqlite].")
    ] = None,
    prune: Annotated[
        int | None,
        typer.Option(
            "--prune",
            min=0,
            metavar="KEEP",
            help="Delete all but the latest KEEP runs [keep-runs of the settings: 50].",
        ),
    ] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, metavar="DAYS", help="Delete the runs begun before that.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON array.")] = False,
) -> None:
    """List the stored runs, the oldest first: name, script, when begun, steps, verdict, size.

    With --prune or --older-than old ones are deleted, those of `.unstuck/runs` alone, and never one that still runs.
    """
    place = folder or Path.cwd()
    if as_json and (prune is not None or older_than is not None):
        fail("--json lists the runs, --prune and --older-than delete some; list them afterwards")
    if not place.is_dir():
        fail(NO_FOLDER.format(place, Path.cwd()))
    found = listed(place)
    if prune is not None or older_than is not None:
        _prune(found, prune, older_than)
    elif as_json:
        typer.echo(json.dumps([_as_dict(run) for run in found], indent=2))
    elif found:
        _print(found)
    else:
        typer.echo(f"unstuck: no runs are stored in {place}; watch one: unstuck run train.py", err=True)


def with_number(arguments: list[str]) -> list[str]:
    """Return arguments of the command line with the number that `runs --prune` may leave out: keep-runs."""
    if arguments[:1] != ["runs"] or "--prune" not in arguments:
        return arguments
    end = arguments.index("--prune") + 1
    if end < len(arguments) and not arguments[end].startswith("--"):
        return arguments
    try:
        return [*arguments[:end], str(load().keep_runs), *arguments[end:]]
    except ConfigError as error:
        typer.echo(f"unstuck: {error}", err=True)
        sys.exit(USAGE)


def _prune(found: list[Listed], keep: int | None, days: float | None) -> None:
    recorded = [run for run in found if run.path.parent.parts[-2:] == FOLDER.parts]
    old = recorded[: max(0, len(recorded) - keep)] if keep is not None else recorded
    if days is not None:
        since = datetime.now().astimezone() - timedelta(days=days)
        old = [run for run in old if run.begun is not None and run.begun < since]
    freed = 0
    gone = [run for run in old if not run.running]
    for run in gone:
        try:
            size = 0 if run.path.is_symlink() else run.size
            remove(run)
        except OSError as error:
            fail(f"cannot delete {run.path}: {error.strerror}; see whether its folder may be written to")
        freed += size
    typer.echo(f"{len(gone)} {'run' if len(gone) == 1 else 'runs'} deleted, {_size(freed)} freed")


def _as_dict(run: Listed) -> dict[str, object]:
    return {
        "name": run.name,
        "path": str(run.path),
        "script": run.script,
        "begun": run.begun.isoformat() if run.begun else None,
        "steps": run.steps,
        "verdict": run.verdict,
        "running": run.running,
        "ending": run.ending or None,
        "bytes": run.size,
        "trouble": run.trouble or None,
    }


def _print(found: list[Listed]) -> None:
    rows = [("RUN", "SCRIPT", "BEGUN", "STEPS", "SIZE", "VERDICT")]
    for run in found:
        begun = f"{run.begun:%Y-%m-%d %H:%M}" if run.begun else "?"
        rows.append((run.name, run.script or "?", begun, f"{run.steps:,}", _size(run.size), run.trouble or run.verdict))
    cells = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    for name, script, begun, steps, size, verdict in cells:
        left = f"{name:<{widths[0]}}  {script:<{widths[1]}}  {begun:<{widths[2]}}"
        typer.echo(f"{left}  {steps:>{widths[3]}}  {size:>{widths[4]}}  {verdict}")


def _printable(text: str) -> str:
    """Return text without what a terminal would obey: names of scripts are anybody's."""
    return no_commands(one_line(text))


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for larger in ("kB", "MB"):
        if value >= KILOBYTE:
            value, unit = value / KILOBYTE, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
