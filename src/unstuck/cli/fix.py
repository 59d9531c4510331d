"""`unstuck fix SCRIPT`: patches at the user's lines, each proven by running the script with it and without."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import stat
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from unstuck.capture.script import terminable
from unstuck.cli.errors import fail
from unstuck.findings import Finding, Severity
from unstuck.fixes.patches.catalogue import all_patchers
from unstuck.fixes.patches.patch import unified_diff
from unstuck.fixes.scripts import Repaired, ScriptFailedError, Tried, repair_script
from unstuck.report.text import place

STEPS = 200  # of each run, unless said otherwise

ScriptArgument = Annotated[Path, typer.Argument(metavar="SCRIPT", help="The Python script to mend.")]
ArgumentsOption = Annotated[
    list[str] | None, typer.Argument(metavar="[ARGS]...", help="Arguments of the script, passed on as they are.")
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Updates in each run.")]
WriteOption = Annotated[bool, typer.Option("--write", help="Write the proven patches into SCRIPT; keep a backup.")]


def fix(
    script: ScriptArgument,
    arguments: ArgumentsOption = None,
    steps: StepsOption = STEPS,
    write: WriteOption = False,
) -> None:
    """Show the patches that remove what is wrong with SCRIPT, each proven by running it with and without.

    SCRIPT is changed with --write alone. Each run is a real one: it writes the files that SCRIPT writes; its output is
    not shown. Options of unstuck stand before SCRIPT; what follows belongs to the script.
    """
    if script.suffix == ".ipynb":
        fail(f"{script} is a notebook, which cannot be patched; run it with `unstuck run` and mend the cells it names")
    if not script.is_file():
        fail(f"no script at {script}; check the path (now in {Path.cwd()})")
    if write and not all(os.access(path, os.W_OK) for path in (script, script.parent, script.resolve().parent)):
        fail(f"cannot write {script} or its folder; check the permissions, or leave --write out to see the patches")
    try:
        with terminable():
            result = repair_script(
                script, arguments or [], steps, lambda text: typer.echo(f"unstuck: {text}", err=True)
            )
    except (ScriptFailedError, OSError, ValueError) as error:
        fail(error)
    typer.echo(render(result), nl=False)
    if result.kept and write:
        backup = write_patched(script, result)
        typer.echo(f"{script} is patched; the script as it was: {backup}")
    elif result.kept:
        options = ["--write", *(["--steps", str(steps)] if steps != STEPS else [])]
        typer.echo(f"nothing is written; `{_command(result, 'fix', *options)}` does")


def render(result: Repaired) -> str:
    """Return what was found, tried and proven, what has no patch and why, and the diff of what was kept.

    All lines are those of the script as it was.
    """
    name, first = result.file.path.name, result.first
    lines = [f"{name} itself fails after {first.steps} steps: {first.error}"] if first.exit_code else []
    for tried in result.tried:
        lines += _told(result, tried)
    lines += [
        f"no patch for {r.code} at {name}:{result.line_in_script(result.after, r.line)}: {r.reason}"
        for r in result.refused
    ]
    lines += _left(result)
    if not any(finding.severity > Severity.INFO for finding in first.findings) and not result.tried:
        more = "; a larger --steps looks at more, such as an evaluation" if first.stopped else ""
        lines.append(f"no fault found in {first.steps} steps{more}")
    return "\n".join([*lines, *(["", diff(result)] if result.kept else [""])])


def _told(result: Repaired, tried: Tried) -> Iterable[str]:
    """Say what a patch does and what came of it; show one that was not kept, for the user may know better."""
    patch, name = tried.patch, result.file.path.name
    line = result.line_in_script(patch.before, patch.line)
    rose = tried.proof.loss_after > tried.proof.loss_before
    why = tried.why or (all_patchers()[patch.code].incomparable() if rose else "")
    yield f"{'kept' if tried.kept else 'not kept'}: {patch.name} for {patch.code} at {name}:{line}: {patch.summary}"
    yield f"    {tried.proof}{f'; {why}' if why else ''}"
    if not tried.kept:
        yield textwrap.indent(patch.diff().rstrip("\n"), "    ", lambda _: True)


def _left(result: Repaired) -> Iterable[str]:
    """Say of the faults that are left, and of which no patch can be made here, where they are and what may help."""
    script = result.file.path
    mended: list[str] = []
    left: list[str] = []
    for finding in result.last.findings:
        if finding.code not in all_patchers():
            if finding.severity > Severity.INFO:
                (mended if finding.fixes else left).append(finding.code)
        elif not _is_in(script, finding):
            where = place(finding.location) or finding.site
            yield (
                f"no patch for {finding.code} at {where}: only {script.name} is patched; "
                f"`unstuck rule {finding.code}` says what to change there"
            )
    if mended:
        yield f"no patch for {_codes(mended)}: mended while it trains by `{_command(result, 'run', '--unsafe-fixes')}`"
    if left:
        yield f"no patch for {_codes(left)}: see `{_command(result, 'run')}`"


def _command(result: Repaired, *words: str) -> str:
    """Return a command of ours on the script and its arguments, quoted for a shell."""
    script = str(result.file.path)
    return shlex.join(["unstuck", *words, *(["--"] if script.startswith("-") else []), script, *result.arguments])


def _codes(codes: list[str]) -> str:
    return ", ".join(dict.fromkeys(codes))


def _is_in(script: Path, finding: Finding) -> bool:
    return finding.location is not None and Path(finding.location.file).resolve() == script.resolve()


def diff(result: Repaired) -> str:
    """Return the unified diff from the script to its patched text."""
    return unified_diff(result.file.text, result.after, result.file.path.name) + "\n"


def write_patched(script: Path, result: Repaired) -> Path:
    """Put the patched text in the script's place, all or nothing; return the backup's path, which is always new."""
    before, after = (result.file.encoded(text) for text in (result.file.text, result.after))
    target, temporary, backup = script.resolve(), "", None
    try:
        if script.read_bytes() != before:
            fail(f"{script} was changed while it was tried; nothing is written, run the command again")
        backup = _new_backup(script, before)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(after)
        known = target.stat()
        os.chmod(temporary, stat.S_IMODE(known.st_mode))
        with contextlib.suppress(OSError, AttributeError):
            os.chown(temporary, known.st_uid, known.st_gid)
        os.replace(temporary, target)
    except OSError as error:
        if backup is not None:
            backup.unlink(missing_ok=True)
        fail(f"cannot write {script}: {error.strerror}; it is as it was")
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return backup


def _new_backup(script: Path, content: bytes) -> Path:
    """Write a script's content beside it, under a name that nothing has yet; raises OSError, leaving nothing."""
    for number in itertools.count():
        backup = script.with_name(f"{script.name}.orig{number or ''}")
        with contextlib.suppress(FileExistsError):
            file = backup.open("xb")
            break
    try:
        with file:
            file.write(content)
        shutil.copystat(script, backup)
    except BaseException:
        backup.unlink()
        raise
    return backup
