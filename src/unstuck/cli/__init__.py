"""The command line: one command, one file."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unstuck._version import __version__
from unstuck.cli import demo, lm, rule, run

app = typer.Typer(
    name="unstuck",
    help="Finds out why a neural network won't train, points at the line, and gets it training.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import torch

        typer.echo(f"unstuck {__version__} (torch {torch.__version__}, Python {sys.version.split()[0]})")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print versions and leave.")
    ] = False,
) -> None:
    pass


app.command("run", context_settings=run.CONTEXT)(run.run)
app.command("rule")(rule.rule)
app.command("demo")(demo.demo)
app.add_typer(lm.app, name="lm", help="The character-level language model: train, eval, sample.")


def main() -> None:
    """Entry point of the `unstuck` command."""
    app()
