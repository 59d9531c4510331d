"""`unstuck ui [RUN]`: the pages of stored runs in a browser, live while one is training."""

from __future__ import annotations

import os
import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from unstuck.capture.script import INTERRUPTED
from unstuck.cli.errors import NO_FOLDER, fail
from unstuck.runs import find
from unstuck.trace.store import StoreError

PORT = 6076
NEEDED = ("starlette", "uvicorn", "altair", "vl_convert")
MISSING = "its pages need Starlette, uvicorn, Altair and vl-convert; install them: pip install 'unstuck[ui]'"


def ui(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Begin with this run: a file or folder, a name in the list, or latest."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--runs-folder", metavar="DIR", help="Whose runs, as for `unstuck runs DIR` [here].")
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Listen here, or on the next free port; 0: any.")
    ] = PORT,
    open_browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open a browser [on a terminal with a screen].")
    ] = None,
) -> None:
    """Serve the stored runs to a browser on this machine: list, pages that grow as runs do, two side by side.

    Nobody else can read them: it listens on 127.0.0.1, and its address holds a secret. It changes no run.
    Ctrl-C ends it.
    """
    if any(find_spec(name) is None for name in NEEDED):
        fail(MISSING)
    place = folder or Path.cwd()
    if not place.is_dir():
        fail(NO_FOLDER.format(place, Path.cwd()))
    try:
        path = None if run is None else find(run, place)
    except StoreError as error:
        fail(error)
    _serve(place, path, port, _has_screen() if open_browser is None else open_browser)


def _serve(folder: Path, path: Path | None, port: int, open_browser: bool) -> None:
    from unstuck.ui.library import Library
    from unstuck.ui.server import Server

    library = Library(folder, path)
    page = ""
    if path is not None:
        name = library.name(path)
        if name is None:
            fail(f"{path} is not a run that unstuck has stored; `unstuck runs` lists them")
        page = f"run?{urlencode({'name': name})}"
    try:
        server = Server(library, port)
    except OSError as error:
        fail(f"cannot listen on port {port} of this machine: {error.strerror}; name another one: --port")
    if port and server.port != port:
        typer.echo(f"unstuck: port {port} is in use; this is port {server.port}", err=True)
    typer.echo(f"{server.address(page)}")
    typer.echo("unstuck: open this address in a browser on this machine; Ctrl-C ends it", err=True)
    sys.stdout.flush()
    if open_browser and not webbrowser.open(server.address_once(page)):
        typer.echo("unstuck: no browser could be opened", err=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        typer.echo("unstuck: ended", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _has_screen() -> bool:
    """Tell whether somebody is there to see a browser: not over a plain remote shell, where one may run as text."""
    screen = sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return screen and sys.stdout.isatty()
