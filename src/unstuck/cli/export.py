"""`unstuck export RUN`: the numbers of a stored run for other programs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unstuck.cli.errors import fail, writable_folder
from unstuck.runs import LATEST, find
from unstuck.trace.store import StoredRun, StoreError, read


class Target(StrEnum):
    """What can be written."""

    TENSORBOARD = "tensorboard"
    CSV = "csv"
    PARQUET = "parquet"


def export(
    to: Annotated[Target, typer.Option("--to", help="What to write; csv needs nothing else to be installed.")],
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to; made if missing.")],
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A file or folder, a name that `unstuck runs` lists, or latest.")
    ] = LATEST,
) -> None:
    """Write the losses, the summaries of all sites and their other numbers, at all steps that the run has kept."""
    try:
        stored = read(find(run))
    except StoreError as error:
        fail(error)
    writable_folder(folder, "the numbers")
    try:
        paths = _write(stored, to, folder)
    except ImportError as error:
        package = "tensorboard" if to is Target.TENSORBOARD else "pyarrow"
        fail(f"--to {to} needs the package {package} ({error}); install it: pip install 'unstuck[export]'")
    except OSError as error:
        fail(f"cannot write the numbers to {folder}: {error.strerror or error}")
    typer.echo(f"exported: {', '.join(str(path) for path in paths)}", err=True)


def _write(stored: StoredRun, to: Target, folder: Path) -> list[Path]:
    from unstuck.integrations import tables, tensorboard

    match to:
        case Target.CSV:
            return tables.write_csv(stored.trace, folder)
        case Target.PARQUET:
            return tables.write_parquet(stored.trace, folder)
        case Target.TENSORBOARD:
            started = stored.info.get("run", {}).get("started")
            begun = datetime.fromisoformat(started).timestamp() if started else 0.0
            return tensorboard.write_events(stored.trace, folder, begun=begun)
