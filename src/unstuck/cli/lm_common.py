"""What the language model's commands share: one-line errors, threads, notes, and how a loss is printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from unstuck.cli.errors import fail
from unstuck.lm.errors import LmError, require_whole

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder made by `unstuck lm train --out DIR`.")]
Data = Annotated[Path | None, typer.Option(help="UTF-8 file, one word per line. Default: the shipped names.")]


def choice(known: Iterable[str], text: str) -> Any:
    """An option that shows its choices."""
    return typer.Option(metavar="|".join(known), help=text)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """An LmError within the block is one line on standard error and exit code 2."""
    try:
        yield
    except LmError as error:
        fail(error)


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Torch on `count` threads within the block: the last bits of a run depend on it."""
    require_whole("--threads", count, 1, 1024)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def reading_bar(source: str | Path) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of a data file read three times; silent where standard error is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("reading words"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        size = Path(source).stat().st_size if Path(source).is_file() else None
        task = progress.add_task("", total=3 * size if size else None)
        yield lambda done: progress.update(task, advance=done)


def note(text: str) -> None:
    """A line on standard error."""
    typer.echo(f"unstuck: note: {text}", err=True)


def loss_line(part: str, loss: float, count: int) -> str:
    """A part's mean loss with its perplexity and number of examples."""
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return f"{part}: loss {loss:.4f} nats (perplexity {perplexity:.3f}) over {count:,} examples"
