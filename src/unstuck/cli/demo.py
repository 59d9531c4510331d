"""`unstuck demo`: the whole story on the names: a net that starts wrong, what is found, the repair, and its proof."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from unstuck.cli.errors import fail, writable_folder
from unstuck.trace.folder import FOLDER, keep_private

SCRIPT = "naive_names.py"
QUICK_STEPS = 2_000


def demo(
    steps: Annotated[
        int, typer.Option("--steps", min=20, metavar="N", help="Updates of each of the two runs.")
    ] = 20_000,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"{QUICK_STEPS:,} updates instead: about ten seconds.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where both reports are saved.")] = Path(
        ".unstuck/demo"
    ),
) -> None:
    """Run the naive character-level model under watch, then again with --unsafe-fixes, and compare."""
    script = find_example(SCRIPT)
    writable_folder(out, "the reports")
    if out.parts[:1] == FOLDER.parts[:1]:
        keep_private(Path(out.parts[0]))
    steps = QUICK_STEPS if quick else steps
    console = Console(highlight=False)
    console.rule("1. the script as it is")
    before, said_before = _run(script, steps, out / "before", fix=False)
    console.rule("2. the same script, data and seed, with --unsafe-fixes")
    after, said_after = _run(script, steps, out / "after", fix=True)
    console.rule("3. before and after")
    console.print(comparison(before, after, said_before, said_after))
    if quick:
        console.print(
            f"after {steps:,} updates each; `unstuck demo` makes ten times as many, and the losses fall further"
        )
    console.print("samples from the mended net: " + ", ".join(samples(said_after)), soft_wrap=True)
    console.print(
        f"reports: {out / 'before' / 'report.txt'} and {out / 'after' / 'report.txt'} (and .json)", soft_wrap=True
    )


def find_example(name: str) -> Path:
    """Return an example script of the checkout or of the installed package; fail when there is none."""
    checkout = Path(__file__).resolve().parents[3] / "examples" / name
    installed = Path(sysconfig.get_path("data")) / "share" / "unstuck" / "examples" / name
    found = [path for path in (checkout, installed) if path.is_file()]
    if not found:
        fail(f"the example {name} is neither at {checkout} nor at {installed}; run the demo from a checkout")
    return found[0]


def _run(script: Path, steps: int, out: Path, *, fix: bool) -> tuple[dict[str, Any], list[str]]:
    """Run the script under `unstuck run`, showing its output as it comes; return the report and the lines."""
    data = resources.files("unstuck.lm") / "data" / "names.txt"
    options = [*(["--unsafe-fixes"] if fix else []), "--no-record", "--save", str(out)]
    command = ["run", *options, str(script), "--steps", str(steps), "--data", str(data)]
    typer.echo("$ unstuck " + " ".join(command))
    lines = []
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "unstuck", *command], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            typer.echo(line, nl=False)
            lines.append(line.rstrip("\n"))
    if process.returncode:
        fail(f"the demo's script ended with exit code {process.returncode}; its output is above")
    return json.loads((out / "report.json").read_text(encoding="utf-8")), lines


def comparison(before: dict[str, Any], after: dict[str, Any], said_before: list[str], said_after: list[str]) -> Table:
    """Return the before/after table from two reports and what the script printed."""
    table = Table("", "as it is", "with --unsafe-fixes")
    table.add_row("starting loss (nats)", *(f"{r['loss']['at_start']:.4f}" for r in (before, after)))
    table.add_row("baseline, ln 27", *(f"{r['loss']['baseline']:.4f}" for r in (before, after)))
    for key, label in (("outside_first", "at step 0"), ("outside_median", "median of the run")):
        table.add_row(f"saturated tanh, {label}", *(f"{_tanh(r)[key]:.1%}" for r in (before, after)))
    table.add_row("dead tanh units, of 200", *(str(_tanh(r)["dead_units"]) for r in (before, after)))
    for name in ("train loss", "val loss"):
        table.add_row(f"{name} (nats)", *(f"{_printed(said, name):.4f}" for said in (said_before, said_after)))
    return table


def _tanh(report: dict[str, Any]) -> dict[str, Any]:
    return next(site for site in report["sites"] if site["op"] == "tanh")


def _printed(lines: list[str], name: str) -> float:
    return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def samples(lines: list[str]) -> list[str]:
    """Return the names the script printed after its losses."""
    start = next(i for i, line in enumerate(lines) if line.startswith("val loss"))
    return [line for line in lines[start + 1 : start + 11] if re.fullmatch(r"\w+", line)]
