"""`unstuck check MODULE:CALLABLE`: judge, and mend, a network before any training."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer
from torch import nn
from torch.optim.optimizer import Optimizer

from unstuck import api
from unstuck.capture.script import stdout_to_stderr
from unstuck.cli.errors import fail
from unstuck.cli.run import FAILED, FailOn, OutputFormat, OutputFormatOption, VerboseOption, print_report
from unstuck.findings import Severity

OURS = tuple(str(Path(module.__file__ or "").parent) + os.sep for module in (api, typer, importlib))

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:CALLABLE", help="What returns (model, batch, loss_fn) or (model, batch, loss_fn, optimizer)."
    ),
]
FixOption = Annotated[
    bool, typer.Option("--fix", help="Mend what can be mended without changing the training; say what.")
]
UnsafeFixesOption = Annotated[bool, typer.Option("--unsafe-fixes", help="Also try what changes the training.")]
StepsOption = Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Steps of each trial of a fix.")]
PretrainedOption = Annotated[
    bool, typer.Option("--pretrained", help="The network does not start from initial weights.")
]
FailOnOption = Annotated[
    FailOn, typer.Option("--fail-on", help="End with exit code 1 when a finding is as bad as this or worse.")
]


def check(
    target: TargetArgument,
    fix: FixOption = False,
    unsafe_fixes: UnsafeFixesOption = False,
    steps: StepsOption = api.TRIAL_STEPS,
    pretrained: PretrainedOption = False,
    output_format: OutputFormatOption = OutputFormat.TEXT,
    fail_on: FailOnOption = FailOn.WARNING,
    verbose: VerboseOption = False,
) -> None:
    """Judge a network before training, by one forward and backward pass on one batch.

    MODULE is imported from the current folder or the installed packages. batch is (inputs, targets), or an iterable of
    such pairs: its first is judged, and with --fix the trials train on as many as they have steps. The loss is
    loss_fn(model(inputs), targets). Exit code 1 when --fail-on says so, 2 when there is nothing that can be judged.
    """
    with stdout_to_stderr() if output_format.alone else contextlib.nullcontext():
        model, batch, loss_fn, optimizer = _made(target)
        try:
            if fix or unsafe_fixes:
                report = api.fix(
                    model, batch, loss_fn, optimizer, unsafe=unsafe_fixes, steps=steps, pretrained=pretrained
                )
            else:
                report = api.check(model, batch, loss_fn, pretrained=pretrained)
        except ValueError as error:
            if traceback.extract_tb(error.__traceback__)[-1].filename.startswith(OURS):
                fail(f"{target}: {error}")
            _fail_raised(f"the network of {target}", error)
        except Exception as error:  # noqa: BLE001  (whatever the user's network raises)
            _fail_raised(f"the network of {target}", error)
    print_report(report, output_format, verbose)
    bad = fail_on is not FailOn.NEVER and report.findings and report.worst >= Severity[fail_on.name]
    raise typer.Exit(FAILED if bad else 0)


def _made(target: str) -> tuple[nn.Module, Any, Callable[[Any, Any], Any], Optimizer | None]:
    """Import and call the target."""
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        fail(f"{target!r} is not MODULE:CALLABLE, for example: unstuck check train:build")
    if module_name.endswith(".py") or os.sep in module_name:
        fail(f"{module_name} is a path; name the module as `import` does, for example: unstuck check train:build")
    module = _imported(module_name)
    if not hasattr(module, name):
        fail(f"{module_name} has no {name}; name a function that returns (model, batch, loss_fn)")
    make = getattr(module, name)
    if not callable(make):
        fail(f"{target} is {make!r:.60}, not a function that returns (model, batch, loss_fn)")
    try:
        made = make()
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever the user's function raises)
        _fail_raised(target, error)
    if not isinstance(made, tuple | list) or len(made) not in (3, 4):
        fail(f"{target} returned {_described(made)}, not (model, batch, loss_fn[, optimizer])")
    model, batch, loss_fn, optimizer = (*made, None)[:4]
    if not isinstance(model, nn.Module) or not callable(loss_fn):
        fail(f"{target} returned {_described(made)}; the first must be a torch.nn.Module, the third a function")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        fail(f"{target} returned {_described(made)}; the fourth must be a torch.optim.Optimizer")
    return model, batch, loss_fn, optimizer


def _imported(name: str) -> ModuleType:
    """Import a module of the current folder or an installed one."""
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            fail(f"no module named {error.name} in {Path.cwd()} or among the installed packages; check the name")
        _fail_raised(f"importing {name}", error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever the user's module raises)
        _fail_raised(f"importing {name}", error)


def _fail_raised(what: str, error: BaseException) -> NoReturn:
    """Show the traceback of the user's code, without our frames and those of the import machinery, and leave."""
    shown = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = shown
    while part is not None:
        frames = [frame for frame in part.stack if not frame.filename.startswith((*OURS, "<frozen importlib"))]
        part.stack, part = traceback.StackSummary.from_list(frames), part.__cause__ or part.__context__
    typer.echo("".join(shown.format()), nl=False, err=True)
    fail(f"{what} raised {type(error).__name__}; nothing is judged")


def _described(made: object) -> str:
    if isinstance(made, tuple | list):
        return f"({', '.join(type(part).__name__ for part in made)})"
    return type(made).__name__
