"""Whether a network is ready to train, for test suites."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer

from unstuck.api import check, make_report, run_info
from unstuck.config import load
from unstuck.findings import Severity
from unstuck.fixes.task import LossFunction, Task
from unstuck.report import Report

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_CAPTURE = os.path.join(_OURS, "capture") + os.sep  # it calls torch in the user's stead: what fails there is the user's


def assert_trainable(
    model: nn.Module,
    batch: tuple[Any, Any] | Iterable[tuple[Any, Any]],
    loss_fn: LossFunction,
    *,
    steps: int = 1,
    optimizer: Optimizer | None = None,
    pretrained: bool = False,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> None:
    """Raise AssertionError, with the report as its message, when anything of warning or worse is found.

    With one step, the default, this is `check`: a forward and backward pass. With more, the network is trained for so
    many `steps` under watch, which shows dead units, update ratios and the course of the loss too, and put back bit for
    bit: by `optimizer`, or Adam with torch's defaults, over `batch`, a pair (inputs, targets) or an iterable of pairs.
    Raises ValueError for batches that are not pairs, and when `steps` is less than 1.
    """
    __tracebackhide__ = True  # of pytest: a failing test ends at its own line
    refuse(
        examine(
            model,
            batch,
            loss_fn,
            steps=steps,
            optimizer=optimizer,
            pretrained=pretrained,
            select=select,
            ignore=ignore,
        )
    )


def examine(model: nn.Module, batch: Any, loss_fn: LossFunction, **options: Any) -> Report:
    """Return the report that `assert_trainable` judges by; arguments and errors are the same.

    An error of the network's own, or of the arguments, has none of our frames in its traceback.
    """
    __tracebackhide__ = True
    try:
        return _examine(model, batch, loss_fn, **options)
    except Exception as error:
        error.__traceback__ = _shown(error)
        raise


def _shown(error: Exception) -> TracebackType | None:
    """Return an error's traceback without our frames; with them where we have failed ourselves."""
    frames = list(_frames(error.__traceback__))
    innermost = frames[-1].tb_frame.f_code.co_filename
    if innermost.startswith(_OURS) and not innermost.startswith(_CAPTURE) and not isinstance(error, ValueError):
        return error.__traceback__
    shown = None
    for one in reversed(frames):
        if not one.tb_frame.f_code.co_filename.startswith(_OURS):
            shown = TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shown


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _examine(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction,
    *,
    steps: int = 1,
    optimizer: Optimizer | None = None,
    pretrained: bool = False,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Report:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if steps == 1:
        return check(model, batch, loss_fn, pretrained=pretrained, select=select, ignore=ignore)
    config, begun = load(select=select, ignore=ignore), time.perf_counter()
    task = Task(model, batch, loss_fn, optimizer, pretrained=pretrained, limit=steps)
    if len(task.batches) == 1:
        config = replace(config, ignore=(*config.ignore, "D008"))  # that the batch repeats is our own doing
    session = task.train(steps).session
    return make_report(session.trace, config, run_info("a trial", task, session, begun))


def refuse(report: Report) -> None:
    """Raise AssertionError when a report has anything of warning or worse."""
    __tracebackhide__ = True
    if report.worst >= Severity.WARNING:
        raise AssertionError(f"the network is not ready to train\n{report}")
