"""How commands fail: one line on standard error, exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import typer

from unstuck.escape import no_commands, printable

USAGE = 2
NO_FOLDER = "there is no folder {}; name one in which scripts were run (now in {})"


def fail(message: object) -> NoReturn:
    """Print one line and leave with exit code 2."""
    typer.echo(no_commands(printable(f"unstuck: {message}")), err=True)
    raise typer.Exit(USAGE)


def writable_folder(folder: Path, purpose: str) -> Path:
    """Make sure, before any work, that files can be written to `folder` (made if missing); else fail."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".unstuck-write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        fail(f"cannot write {purpose} to {folder}: {error.strerror}; name another folder")
    return folder
