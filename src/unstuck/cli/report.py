"""`unstuck report RUN`: the report of a stored run."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from unstuck.cli.errors import fail
from unstuck.config import ConfigError
from unstuck.report import charts
from unstuck.report.charts import NAMES, SLIDERS
from unstuck.report.report import FORMATS, Report
from unstuck.rules.catalogue import UnknownRuleError
from unstuck.runs import LATEST, find, read_report
from unstuck.trace.store import StoreError

ENDINGS = {"": "text", ".json": "json", ".txt": "text", ".html": "html", ".htm": "html", ".sarif": "sarif"}


def report(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A file or folder, a name that `unstuck runs` lists, or latest.")
    ] = LATEST,
    output_format: Annotated[
        str | None,
        typer.Option("--output-format", metavar="FORMAT", help=f"{', '.join(FORMATS)} [text, or by -o's ending]."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE instead of standard output.")
    ] = None,
    chart: Annotated[
        str | None,
        typer.Option(
            "--chart", metavar="NAME", help=f"One chart alone, to -o x.png, x.svg or x.html: {', '.join(NAMES)}."
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option("--step", metavar="N", help=f"Of the charts {' and '.join(SLIDERS)}: the sampled step [first]."),
    ] = None,
    select: Annotated[
        str | None, typer.Option("--select", metavar="CODES", help="Judge by these rules [those of the run].")
    ] = None,
    ignore: Annotated[
        str | None, typer.Option("--ignore", metavar="CODES", help="Leave these rules out [those of the run].")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also say what each rule lacked that could not judge.")
    ] = False,
) -> None:
    """Print the report of a stored run, as its end would have: also of one that was killed or that still runs."""
    chosen = output_format or ("text" if output is None or chart is not None else _format_of(output))
    if chosen not in FORMATS:
        fail(f"no output format {chosen!r}; choose from {', '.join(FORMATS)}")
    if chart is not None and (output_format is not None or verbose):
        fail(f"--chart draws one picture; leave {'--output-format' if output_format else '--verbose'} out")
    if verbose and chosen != "text":
        fail(f"--verbose is for text; {chosen} has everything anyway")
    if chart is not None and output is None:
        fail("--chart needs a file to draw into, for example: -o loss.png")
    if step is not None and chart is None:
        fail(f"--step chooses the step of a chart, for example: --chart {SLIDERS[0]} --step {step} -o {SLIDERS[0]}.png")
    try:
        path = find(run)
        judged, _ = read_report(path, **_changes(select, ignore))
    except (StoreError, ConfigError, UnknownRuleError) as error:
        fail(error)
    if chart is not None and output is not None:
        _draw(judged, chart, output, step)
    elif output is None:
        color = chosen == "text" and sys.stdout.isatty()
        width = min(120, shutil.get_terminal_size((100, 24)).columns)
        try:
            text = judged.render(chosen, width=width, color=color, verbose=verbose)
        except ImportError as error:
            fail(error)
        typer.echo(text, nl=False, color=color)
    else:
        _write(judged, chosen, output, verbose)


def _format_of(output: Path) -> str:
    """Return the format that a file's name ends in; text where it has no ending."""
    ending = output.suffix.lower()
    if ending not in ENDINGS:
        known = f"end its name in {', '.join(filter(None, ENDINGS))}, or name one with --output-format"
        picture = ", or one picture with --chart" if ending in (".png", ".svg") else ""
        fail(f"{output} does not tell the format of the report; {known}{picture}")
    return ENDINGS[ending]


def _changes(select: str | None, ignore: str | None) -> dict[str, Any]:
    given = {"select": select, "ignore": ignore}
    return {
        name: tuple(part.strip() for part in text.split(",") if part.strip())
        for name, text in given.items()
        if text is not None
    }


def _write(judged: Report, output_format: str, output: Path, verbose: bool) -> None:
    try:
        output.write_text(judged.render(output_format, verbose=verbose), encoding="utf-8")
    except ImportError as error:
        fail(error)
    except OSError as error:
        fail(f"cannot write the report to {output}: {error.strerror}; name another file")
    typer.echo(f"report saved: {output}", err=True)


def _draw(judged: Report, name: str, output: Path, step: int | None) -> None:
    try:
        charts.save(charts.chart(judged, name, step), output)
    except (charts.NoChartError, ImportError, ValueError) as error:
        fail(error)
    except OSError as error:
        fail(f"cannot write the chart to {output}: {error.strerror}; name another file")
    typer.echo(f"chart saved: {output}", err=True)
