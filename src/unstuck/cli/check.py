"""`unstuck check MODULE:CALLABLE`: judge, and mend, a network before any training."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from torch import nn
from torch.optim.optimizer import Optimizer

from unstuck import api
from unstuck.cli.errors import fail
from unstuck.cli.run import FAILED, FailOn, OutputFormat, OutputFormatOption, print_report
from unstuck.findings import Severity

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:CALLABLE", help="What returns (model, batch, loss_fn) or (model, batch, loss_fn, optimizer)."
    ),
]
FixOption = Annotated[
    bool, typer.Option("--fix", help="Mend what can be mended without changing the function; say what.")
]
UnsafeFixesOption = Annotated[bool, typer.Option("--unsafe-fixes", help="Also try what changes the training.")]
StepsOption = Annotated[
    int, typer.Option("--steps", min=1, metavar="N", help=f"Steps of each trial of a fix [{api.TRIAL_STEPS}].")
]
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
) -> None:
    """Judge a network before training, by one forward and backward pass on one batch.

    MODULE is imported from the current folder or the installed packages; batch is (inputs, targets), or with --fix an
    iterable of such pairs; the loss is loss_fn(model(inputs), targets). Exit code 1 when --fail-on says so.
    """
    model, batch, loss_fn, optimizer = _made(target)
    try:
        if fix or unsafe_fixes:
            report = api.fix(model, batch, loss_fn, optimizer, unsafe=unsafe_fixes, steps=steps, pretrained=pretrained)
        else:
            report = api.check(model, batch, loss_fn, pretrained=pretrained)
    except ValueError as error:
        fail(f"{target}: {error}")
    print_report(report, output_format, verbose=False)
    bad = fail_on is not FailOn.NEVER and report.findings and report.worst >= Severity[fail_on.name]
    raise typer.Exit(FAILED if bad else 0)


def _made(target: str) -> tuple[nn.Module, Any, Callable[[Any, Any], Any], Optimizer | None]:
    """Import and call the target."""
    module, _, name = target.partition(":")
    if not module or not name:
        fail(f"{target!r} is not MODULE:CALLABLE, for example: unstuck check train:build")
    sys.path.insert(0, os.getcwd())
    try:
        make = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        fail(f"cannot import {module}: {error}; run this where `import {module}` works")
    except AttributeError:
        fail(f"{module} has no {name}; name a function that returns (model, batch, loss_fn)")
    if not callable(make):
        fail(f"{target} is a {type(make).__name__}, not a function that returns (model, batch, loss_fn)")
    made = make()
    if not isinstance(made, tuple | list) or len(made) not in (3, 4):
        fail(f"{target} returned {_described(made)}, not (model, batch, loss_fn[, optimizer])")
    model, batch, loss_fn, optimizer = (*made, None)[:4]
    if not isinstance(model, nn.Module) or not callable(loss_fn):
        fail(f"{target} returned {_described(made)}; the first must be a torch.nn.Module, the third a function")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        fail(f"{target} returned a {type(optimizer).__name__} as its fourth, not a torch.optim.Optimizer")
    return model, batch, loss_fn, optimizer


def _described(made: object) -> str:
    if isinstance(made, tuple | list):
        return f"({', '.join(type(part).__name__ for part in made)})"
    return type(made).__name__
