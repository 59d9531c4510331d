"""`unstuck fix SCRIPT`: patches at the user's lines, each proven by running the script with it and without."""

from __future__ import annotations

import difflib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from unstuck.cli.errors import fail
from unstuck.fixes.scripts import Repaired, ScriptFailedError, repair_script

STEPS = 200  # of each run, unless said otherwise

ScriptArgument = Annotated[Path, typer.Argument(metavar="SCRIPT", help="The Python script to mend.")]
ArgumentsOption = Annotated[
    list[str] | None, typer.Argument(metavar="[ARGS]...", help="Arguments of the script, passed on as they are.")
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, metavar="N", help=f"Updates in each run [{STEPS}].")]
WriteOption = Annotated[bool, typer.Option("--write", help="Write the proven patches into SCRIPT; keep a backup.")]


def fix(
    script: ScriptArgument,
    arguments: ArgumentsOption = None,
    steps: StepsOption = STEPS,
    write: WriteOption = False,
) -> None:
    """Show the patches that remove what is wrong with SCRIPT, each proven by running it with and without.

    Nothing is changed without --write. Options of unstuck stand before SCRIPT; what follows belongs to the script.
    """
    if script.suffix == ".ipynb":
        fail(f"{script} is a notebook, which cannot be patched; run it with `unstuck run` and mend the cells it names")
    if not script.is_file():
        fail(f"no script at {script}; check the path (now in {Path.cwd()})")
    if write and not os.access(script, os.W_OK):
        fail(f"cannot write {script}; check its permissions, or leave --write out to see the patches")
    try:
        result = repair_script(script, arguments or [], steps, lambda text: typer.echo(f"unstuck: {text}", err=True))
    except (ScriptFailedError, OSError, UnicodeDecodeError) as error:
        fail(error)
    typer.echo(render(result), nl=False)
    if result.kept and write:
        backup = write_patched(script, result)
        typer.echo(f"{script} is patched; the script as it was: {backup}")
    elif result.kept:
        typer.echo(f"nothing is written; `unstuck fix --write {script}` does")


def render(result: Repaired) -> str:
    """Return what was found, tried and proven, and the diff of what was kept."""
    lines = [
        f"{'kept' if tried.kept else 'not kept'}: {tried.patch.name} for {tried.patch.code} at "
        f"{result.file.name}:{tried.patch.line}: {tried.patch.summary}\n"
        f"    {tried.proof}{f'; {tried.why}' if tried.why else ''}"
        for tried in result.tried
    ]
    lines += [f"no patch for {r.code} at {result.file.name}:{r.line}: {r.reason}" for r in result.refused]
    if not lines:
        codes = ", ".join(dict.fromkeys(finding.code for finding in result.first.findings))
        found = f"{codes} found, which no patch removes; see `unstuck run {result.file}`" if codes else "no fault found"
        lines = [f"{found} in {result.first.steps} steps"]
    text = "\n".join(lines) + "\n"
    return text + (f"\n{diff(result)}\n" if result.kept else "")


def diff(result: Repaired) -> str:
    """Return the unified diff from the script to its patched text."""
    old, new = (text.splitlines(keepends=True) for text in (result.before, result.after))
    lines = difflib.unified_diff(old, new, f"a/{result.file.name}", f"b/{result.file.name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def write_patched(script: Path, result: Repaired) -> Path:
    """Put the patched text in the script's place, all or nothing; return the backup's path, which is always new."""
    if script.read_bytes() != result.before.encode("utf-8"):
        fail(f"{script} was changed while it was tried; nothing is written, run the command again")
    backup = script.with_name(f"{script.name}.orig")
    number = 1
    while backup.exists():
        backup, number = script.with_name(f"{script.name}.orig{number}"), number + 1
    target = script.resolve()
    try:
        shutil.copy2(target, backup)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(result.after.encode("utf-8"))
        os.chmod(name, stat.S_IMODE(target.stat().st_mode))
        os.replace(name, target)
    except OSError as error:
        fail(f"cannot write {script}: {error.strerror}; it is as it was")
    return backup
