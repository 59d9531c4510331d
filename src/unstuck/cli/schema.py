"""`unstuck schema`: the JSON Schema of reports."""

from __future__ import annotations

import typer

from unstuck.report import json


def schema() -> None:
    """Print the JSON Schema (draft 2020-12) of what --output-format json prints."""
    typer.echo(json.schema(), nl=False)
