"""The command line: one command, one file."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unstuck.capture.script import INTERRUPTED
from unstuck.cli import check, demo, export, fix, lm, report, rule, run, runs, schema, ui
from unstuck.cli.errors import USAGE

app = typer.Typer(
    name="unstuck",
    help="Finds out why a neural network won't train, points at the line, and gets it training.",
    epilog="Begin with `unstuck demo`, or with `unstuck run train.py`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from unstuck.cli.version import version_text

        typer.echo(version_text())
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print versions and devices, for a report, and leave.",
        ),
    ] = False,
) -> None:
    pass


app.command("run", short_help="Watch a script train, and report why it does not.", context_settings=run.CONTEXT)(
    run.run
)
app.command("check", short_help="Judge a network before training, by one batch.")(check.check)
app.command("fix", short_help="Show patches at your lines, proven by running.", context_settings=run.CONTEXT)(fix.fix)
app.command("report", short_help="Print the report of a stored run.")(report.report)
app.command("runs", short_help="List the stored runs; delete old ones.")(runs.runs)
app.command("ui", short_help="Serve the stored runs to a browser on this machine, live.")(ui.ui)
app.command("export", short_help="Write the numbers of a stored run, for other programs.")(export.export)
app.command("rule")(rule.rule)
app.command("schema", short_help="Print the JSON Schema of what --output-format json prints.")(schema.schema)
app.command("demo", short_help="Watch a network that starts wrong, mend it, and compare.")(demo.demo)
app.add_typer(lm.app, name="lm", help="The character-level language model: train, sample, score, compare.")


def main() -> None:
    """Entry point of the `unstuck` command: arguments it cannot use are one line on standard error and exit code 2."""
    try:
        code = app(run.module_arguments_apart(runs.with_number(sys.argv[1:])), standalone_mode=False)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except typer.TyperException as error:
        no_arguments = type(error).__name__ == "NoArgsIsHelpError"
        typer.echo(error.format_message() if no_arguments else f"unstuck: {_sentence(error)}", err=True)
        sys.exit(USAGE)
    sys.exit(code if isinstance(code, int) else 0)


def _sentence(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "unstuck"
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{text}; see `{command} --help`"
