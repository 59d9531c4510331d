"""`unstuck run SCRIPT`: watch an unmodified script, judge it, explain."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from unstuck.api import Run, chosen
from unstuck.capture.programs import Program, ScriptError, read_module, read_program, read_script
from unstuck.capture.script import Outcome, run_program, stdout_to_stderr, unterminable
from unstuck.cli.errors import USAGE, fail, writable_folder
from unstuck.cli.remote import RemoteFolder, is_remote, open_remote
from unstuck.cli.status import StatusLine
from unstuck.config import Config, ConfigError, load
from unstuck.findings import Severity
from unstuck.ranks import own_rank
from unstuck.report import Report, style
from unstuck.rules.catalogue import UnknownRuleError
from unstuck.trace.folder import link
from unstuck.trace.recording import Recording, begin_recording
from unstuck.trace.store import StoreError

FAILED = 1  # exit code
SWITCHES = frozenset(
    (
        *("--fix", "--unsafe-fixes", "--pretrained", "--record", "--no-record", "--no-progress"),
        *("--help", "--verbose", "-v"),
    )
)
"""Options without a value."""
CONTEXT = {"allow_interspersed_args": False, "ignore_unknown_options": False}


class FailOn(StrEnum):
    """From which severity on a run counts as failed."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


class OutputFormat(StrEnum):
    """Renderings that `run` can print."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"

    @property
    def alone(self) -> bool:
        """Whether nothing else may stand on standard output."""
        return self in (OutputFormat.JSON, OutputFormat.SARIF)


ScriptOption = Annotated[
    str | None, typer.Argument(metavar="SCRIPT", help="The Python script or notebook (.ipynb) to run, unchanged.")
]
ArgumentsOption = Annotated[
    list[str] | None, typer.Argument(metavar="[ARGS]...", help="Arguments of the script, passed on as they are.")
]
ModuleOption = Annotated[
    str | None, typer.Option("-m", metavar="MODULE", help="Run a module instead, as `python -m MODULE` does.")
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, metavar="N", help="End the training after N updates and report.")
]
FixOption = Annotated[
    bool, typer.Option("--fix", help="Mend what can be mended without changing the training; say what.")
]
UnsafeFixesOption = Annotated[
    bool,
    typer.Option("--unsafe-fixes", help="Also mend what changes the training: initialisation, learning rate, units."),
]
OutputFormatOption = Annotated[
    OutputFormat,
    typer.Option("--output-format", help="json, sarif: the report alone on stdout, the script's on stderr."),
]
SaveOption = Annotated[
    str | None,
    typer.Option(
        "--save",
        metavar="DIR",
        help="Write run.sqlite to DIR as it runs, then the report (json, txt, html) and, with fixes, fixes.py. "
        "DIR may be an address of fsspec (s3://…), to which all goes at the end.",
    ),
]
RecordOption = Annotated[
    bool | None,
    typer.Option(
        "--record/--no-record", help="Keep the run below .unstuck, for `unstuck runs` and `unstuck report` [record]."
    ),
]
EveryOption = Annotated[
    int | None,
    typer.Option("--every", min=1, metavar="N", help="Sample each N-th step, whatever that costs."),
]
OverheadOption = Annotated[
    str | None,
    typer.Option("--overhead", metavar="SHARE", help="Watching may add this share of the training time [1%]."),
]
SelectOption = Annotated[
    str | None,
    typer.Option("--select", metavar="CODES", help="Judge by these rules alone (codes or prefixes, A001,L)."),
]
IgnoreOption = Annotated[
    str | None, typer.Option("--ignore", metavar="CODES", help="Leave these rules out (codes or prefixes).")
]
ExtendSelectOption = Annotated[
    str | None, typer.Option("--extend-select", metavar="CODES", help="Judge by these rules as well.")
]
FailOnOption = Annotated[
    FailOn | None,
    typer.Option("--fail-on", help="End with exit code 1 when a finding is as bad as this or worse [never]."),
]
TextOfOption = Annotated[
    Path | None, typer.Option("--text-of", hidden=True, help="Run SCRIPT as if it had this file's text (a patch).")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", hidden=True, help="Seed the random numbers of a script that does not seed them.")
]
NoProgressOption = Annotated[
    bool, typer.Option("--no-progress", help="Show no line about the run while it runs (shown on a terminal alone).")
]
PretrainedOption = Annotated[
    bool,
    typer.Option("--pretrained", help="The weights were trained before (load_state_dict is noticed without saying)."),
]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Tell every finding and fix, and what each rule lacked that could not judge."),
]


def run(
    script: ScriptOption = None,
    arguments: ArgumentsOption = None,
    module: ModuleOption = None,
    steps: StepsOption = None,
    fix: FixOption = False,
    unsafe_fixes: UnsafeFixesOption = False,
    output_format: OutputFormatOption = OutputFormat.TEXT,
    save: SaveOption = None,
    record: RecordOption = None,
    every: EveryOption = None,
    overhead: OverheadOption = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    extend_select: ExtendSelectOption = None,
    fail_on: FailOnOption = None,
    pretrained: PretrainedOption = False,
    verbose: VerboseOption = False,
    no_progress: NoProgressOption = False,
    text_of: TextOfOption = None,
    seed: SeedOption = None,
) -> None:
    """Run SCRIPT as `python SCRIPT ARGS...` would, watch it train, and report why it does not.

    Options of unstuck stand before SCRIPT; everything after it belongs to the script. The exit code is the script's
    own, 2 when it never trained, or 1 when --fail-on says so.
    """
    try:
        config = load(
            every=every,
            overhead=overhead,
            select=select,
            ignore=ignore,
            extend_select=extend_select,
            fail_on=fail_on.value if fail_on else None,
            record=record,
        )
        program, arguments = _program(script, module, arguments or [], text_of)
        chosen(config)  # an unknown code is an error before anything is written
        first = own_rank() == 0  # of several processes that train one network, the first one tells
        where = save if save is None or is_remote(save) else str(Path(save).absolute())  # a script may change folders
        place = _place(where) if first else None
        recording = _recording(config, place, program.title, asked=bool(record)) if first else None
        watched = Run(
            config, fix=fix, unsafe_fixes=unsafe_fixes, max_steps=steps, title=program.title, recording=recording
        )
        watched.session.trace.facts.weights_loaded = pretrained
    except (ConfigError, UnknownRuleError, ScriptError) as error:
        fail(error)
    for note in program.notes:
        typer.echo(f"unstuck: {note}", err=True)
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
    progress = first and not no_progress
    raise typer.Exit(_watch(watched, program, arguments, output_format, place or where, verbose, progress=progress))


def _place(save: str | None) -> Path | RemoteFolder | None:
    """Make sure that files can be written where --save says, and return that place."""
    if save is None:
        return None
    return open_remote(save) if is_remote(save) else writable_folder(Path(save), "the report")


def _watch(
    watched: Run,
    program: Program,
    arguments: list[str],
    output_format: OutputFormat,
    save: Path | RemoteFolder | str | None,
    verbose: bool,
    *,
    progress: bool,
) -> int:
    """Run the program under watch, deliver the report, and return the exit code.

    `save` is a string in a process that is not thought to be the first, and opened when it has trained by itself.
    """
    watched.command = (program.argv0, *arguments)
    quiet = stdout_to_stderr() if output_format.alone else contextlib.nullcontext()
    line = StatusLine(watched, wanted=progress)

    def deliver(outcome: Outcome) -> int:
        watched.exit_code, watched.stopped = outcome.exit_code, outcome.stopped
        watched.exception, watched.signal = outcome.exception, outcome.signal
        report = watched.report()
        recorded = watched.end_recording(report)
        if watched.session.others is not None and not watched.session.others.first:
            return outcome.exit_code
        place = _place(save) if isinstance(save, str) else save
        if place is not None:
            _save(report, place, recorded)
        if report.trace.facts.backward_calls or report.causes or output_format is not OutputFormat.TEXT:
            print_report(report, output_format, verbose)
        if save is None and output_format is OutputFormat.TEXT:
            _say_where(recorded)
        return _exit_code(report, outcome, watched.config.fail_on)

    def before_exit(status: int) -> None:
        watched.session.stop()
        line.close()
        quiet.__exit__(None, None, None)
        with unterminable():
            deliver(Outcome(status & 0xFF))
        sys.stdout.flush()

    first = watched.session.others is None or watched.session.others.first
    with contextlib.ExitStack() as reporting:
        with quiet, watched, line:
            if first:
                reporting.enter_context(unterminable())
            outcome = run_program(program, arguments, restore=False, before_exit=before_exit, on_sigterm=first)
        return deliver(outcome)


def module_arguments_apart(arguments: list[str]) -> list[str]:
    """Mark where our options end when `-m MODULE` is given: what follows belongs to the module, as with `python -m`."""
    if arguments[:1] != ["run"]:
        return arguments
    position = 1
    while position < len(arguments) and arguments[position].startswith("-"):
        option = arguments[position]
        if option == "-m":
            return [*arguments[: position + 2], "--", *arguments[position + 2 :]]
        position += 1 if option in SWITCHES or "=" in option else 2
    return arguments


def _program(
    script: str | None, module: str | None, arguments: list[str], text_of: Path | None
) -> tuple[Program, list[str]]:
    """Return the program to run and its arguments; with `-m` the first positional argument is already the module's."""
    if module is not None:
        return read_module(module), [*([script] if script is not None else []), *arguments]
    if script is None:
        fail("name a script to run, for example: unstuck run train.py; or a module: unstuck run -m package.train")
    return read_program(Path(script)) if text_of is None else read_script(Path(script), text_of), arguments


def print_report(report: Report, output_format: OutputFormat, verbose: bool) -> None:
    """Print a report to standard output."""
    stream = sys.stderr if sys.stdout is None or sys.stdout.closed else sys.stdout  # a script may have closed it
    if output_format is not OutputFormat.TEXT:
        typer.echo(report.render(output_format.value), nl=False, file=stream)
        return
    color = stream.isatty()
    text = report.render("text", width=_width(), color=color, verbose=verbose)
    typer.echo(f"\n{text}", nl=False, color=color, file=stream)


def _width() -> int:
    return min(120, shutil.get_terminal_size((100, 24)).columns)


def _recording(config: Config, save: Path | RemoteFolder | None, title: str, *, asked: bool) -> Recording | None:
    """Return what records the run: to the folder named by --save, else below .unstuck; None where nobody wants that.

    A place that cannot be written to is an error where it was asked for on the command line, else said in one line.
    """
    if save is None and not (asked or config.record):
        return None
    folder = save.spool if isinstance(save, RemoteFolder) else save
    try:
        recording = begin_recording(True if folder is None else folder, title, config)
    except StoreError as error:
        if save is not None or asked:
            fail(error)
        typer.echo(f"unstuck: {str(error).rpartition('; ')[0]}; --no-record leaves it be", err=True)
        return None
    if isinstance(save, Path) and config.record:
        with contextlib.suppress(OSError):  # where there are no symbolic links, say
            link(recording.path, title)
    return recording


def _say_where(recorded: Path | None) -> None:
    """Tell a person, once the report has been read, how to see more of it."""
    on_a_terminal = sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()
    if recorded is not None and on_a_terminal and style.installed():
        typer.echo("unstuck: with pictures: unstuck report latest -o report.html", err=True)


def _save(report: Report, save: Path | RemoteFolder, recorded: Path | None) -> None:
    folder = save if isinstance(save, Path) else save.spool
    try:
        paths = report.save(folder) + ([] if recorded is None else [recorded])
    except OSError as error:
        fail(f"cannot write the report to {folder}: {error.strerror}")
    if isinstance(save, Path):
        said = [str(path) for path in paths]
    else:
        said = [save.address_of(path.name) for path in paths]
        if not save.upload():
            return
    typer.echo(f"report saved: {', '.join(said)}", err=True)
    if not style.installed():
        typer.echo(f"unstuck: report.html is not among them: {style.MISSING}", err=True)


def _exit_code(report: Report, outcome: Outcome, fail_on: str) -> int:
    """Return the script's own exit code; 1 for findings as bad as `fail_on`; 2, and say so, when it did not train."""
    facts = report.trace.facts
    if facts.backward_calls and not outcome.exit_code and fail_on != "never":
        return FAILED if report.findings and report.worst >= Severity[fail_on.upper()] else 0
    if facts.backward_calls or facts.internal_error or outcome.exit_code:
        return outcome.exit_code
    if facts.other_threads:
        typer.echo(
            "unstuck: the training was done in another thread than the script's own; it is not watched", err=True
        )
        return outcome.exit_code
    if report.causes:  # they say why it did not
        return USAGE
    typer.echo(
        "unstuck: no backward pass was seen, so there is nothing to judge; name the script that trains; "
        "one that starts other processes for it needs `with unstuck.watch():` in what they run",
        err=True,
    )
    return USAGE
