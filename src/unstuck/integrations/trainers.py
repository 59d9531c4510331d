"""What the callbacks of trainers share: one watched run, its vitals for the trainer's logger, its findings as warnings.

A trainer keeps the loop, so that a callback begins and ends the run, and asks in between. Nothing that fails in here
reaches the training: it is said once on standard error, and the watching ends.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

from unstuck.api import Run, watch
from unstuck.capture.session import SessionError
from unstuck.findings import Finding, Severity
from unstuck.integrations.vitals import PREFIX, vitals
from unstuck.report import Report

FIRST_VERDICT = 10  # steps after which a run is judged for the first time; rules have seen the start of training then
NEXT_VERDICT = 1.5  # times as many steps before each further one, as often as a script is mended in flight
FINDINGS = f"{PREFIX}/findings"  # how many root causes were known at the last verdict
_TRAINED: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # under watch, by any trainer of this process


class FindingWarning(UserWarning):
    """A fault that a run under watch was found to have: code, name, place and numbers, at the user's own line."""


class TrainerWatch:
    """A run that is begun and ended by a trainer's callback.

    `vitals` holds the numbers of the last sampled step, `report` what was found (so far, while the training goes on).
    Root causes of warning or worse are raised as `FindingWarning`, each code once, when the run is judged: after 10
    steps, and then each time there are half as many more. Where the user makes errors of warnings, that one is raised
    at the end of training, once the report is printed. `should_stop` turns true when a root cause is an error and
    `stop_on_error` was asked for. Other options are those of `unstuck.watch`.
    """

    def __init__(
        self, *, stop_on_error: bool = False, print_report: bool = True, first: bool = True, **options: Any
    ) -> None:
        self.should_stop = False
        self.vitals: dict[str, float] = {}
        self.step = -1  # the sampled step that these speak of
        self.when_sampled: Callable[[], object] | None = None
        self.first = first  # whether this is the first of the processes that train together
        self._stop_on_error = stop_on_error
        self._stop_wanted = False
        self._print_report = print_report
        self._options = options
        watch(**options)  # a setting that cannot be used is an error now, not when training begins
        self._run: Run | None = None
        self._models: tuple[weakref.ref[nn.Module], ...] = ()
        self._running = False
        self._report: Report | None = None
        self._judge_at = FIRST_VERDICT
        self._told: set[str] = set()
        self._raised: FindingWarning | None = None
        self._logged = -1  # the last step whose vitals a logger was given
        self._broken: set[int] = set()  # loggers that have failed

    # -- life ------------------------------------------------------------------------------------------------------

    def begin(self, *models: nn.Module, trained: bool = False) -> None:
        """Begin to watch the training of this thread, of `models` where these are known.

        It does not start from an initialisation where `trained` says so, where one of them was trained under watch
        before, or has weights that transformers has loaded. Where another run is watched already, that is said and
        nothing is done.
        """
        if self._running:  # a training that was left by an exception, which not every trainer tells of
            self.end(failed=True)
        self.should_stop, self.vitals, self.step = False, {}, -1
        self._stop_wanted = False
        self._report, self._judge_at, self._raised = None, FIRST_VERDICT, None
        self._told.clear()
        self._broken.clear()
        self._logged = -1
        self._safely(self._begin, models, trained)

    def end(self, *, failed: bool = False, error: BaseException | None = None) -> Report | None:
        """End the watching, print the report and warn of what was not told yet; harmless when called twice.

        `error` is what has ended the training, where that is known: it has `failed` then. Raises FindingWarning where
        the user makes errors of such warnings, unless the training has failed anyway.
        """
        failed = failed or error is not None
        if self._running:
            self._running = False
            atexit.unregister(self.end)
            self._safely(self._end, error)
        raised, self._raised = self._raised, None
        if raised is not None and not failed:
            raise raised
        return self._report

    @property
    def report(self) -> Report | None:
        """What was found; None when nothing is or was watched."""
        return self._run.report() if self._running and self._run is not None else self._report

    def stop(self) -> None:
        """Have the training stopped by `StopTraining`, which the next optimizer step raises."""
        if self._run is not None:
            self._run.session.max_steps = self._run.session.steps
            self._run.stopped = True

    def log(self, write: Callable[[Any, dict[str, float]], object], *loggers: Any) -> None:
        """Have the vitals of a newly sampled step written to each logger; one that raises is not asked again."""
        if self.step <= self._logged:
            return
        self._logged = self.step
        for logger in loggers:
            if id(logger) in self._broken:
                continue
            try:
                write(logger, dict(self.vitals))
            except Exception as error:  # noqa: BLE001  (whatever a logger raises, the training goes on)
                self._broken.add(id(logger))
                self._say(
                    f"cannot go on logging vitals by {type(logger).__name__}: {_described(error)}; "
                    "watching and training go on, and the report has all numbers"
                )

    def _begin(self, models: tuple[nn.Module, ...], trained: bool) -> None:
        self._run = run = watch(**self._options)
        run.title = " and ".join(dict.fromkeys(type(model).__name__ for model in models)) or "training"
        if trained or any(model in _TRAINED or _is_loaded(model) for model in models):
            run.session.trace.facts.weights_loaded = True
        run.followers.append(self)
        try:
            run.__enter__()
        except SessionError as error:
            self._run = None
            self._say(f"this training is not watched by the callback: {error}")
            return
        self._models = tuple(map(weakref.ref, models))
        for model in models:
            run.session.know(model)
        self._running = True
        atexit.register(self.end)  # a training that ends by an exception has a report all the same

    def _end(self, error: BaseException | None) -> None:
        assert self._run is not None
        self._run.__exit__(None, error, None)
        self._report = report = self._run.report()
        if report.run.steps:
            _TRAINED.update(model for reference in self._models if (model := reference()) is not None)
        if self.first:
            if self._print_report and (report.trace.facts.backward_calls or report.causes):
                print(f"\n{report}", flush=True)  # noqa: T201
            self._warn(report)

    # -- what the run tells (see `unstuck.api.Follower`) -----------------------------------------------------------

    def sampled(self, run: Run) -> None:
        """Take the vitals of the last sampled step; judge the run when it is time."""
        self._safely(self._sampled, run)

    def ended(self, run: Run) -> None:
        """Take the last vitals."""
        self._safely(self._take, run)

    def _sampled(self, run: Run) -> None:
        fresh = self._take(run)
        if run.session.steps >= self._judge_at:
            self._judge_at = int(run.session.steps * NEXT_VERDICT)
            self._judge(run.report())
        others = run.session.others  # all processes stop at the same step, or some would wait for ever
        if self._stop_wanted if others is None else others.ending(self._stop_wanted):
            self.should_stop = True
        if fresh and self.when_sampled is not None:
            self.when_sampled()

    def _take(self, run: Run) -> bool:
        trace = run.session.trace
        if not trace.steps or trace.steps[-1] <= self.step:
            return False
        self.step = trace.steps[-1]
        found = {name: value for name, value in self.vitals.items() if name == FINDINGS}
        self.vitals = {**vitals(trace, self.step), **found}
        return True

    def _judge(self, report: Report) -> None:
        roots = [cause.root for cause in report.causes if cause.root.severity > Severity.INFO]
        self.vitals[FINDINGS] = float(len(roots))
        if self.first:
            self._warn(report)
        self._stop_wanted = self._stop_on_error and any(root.severity is Severity.ERROR for root in roots)

    def _warn(self, report: Report) -> None:
        for cause in report.causes:
            root = cause.root
            if root.severity > Severity.INFO and root.code not in self._told:
                self._told.add(root.code)
                try:
                    _warn(root)
                except FindingWarning as warning:
                    self._raised = self._raised or warning

    # -- our own errors --------------------------------------------------------------------------------------------

    def _safely(self, function: Callable[..., object], *args: object) -> None:
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not reach the user's training)
            self._say(
                f"internal error, watching ends here and the training goes on: {_described(error)}. "
                "Please report it with the script that showed it."
            )
            self._running = False
            atexit.unregister(self.end)
            if self._run is not None:
                self._run.session.stop()

    def _say(self, text: str) -> None:
        if self.first:
            print(f"unstuck: {text}", file=sys.stderr)  # noqa: T201


def _described(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"


def _is_loaded(model: nn.Module) -> bool:
    """Tell whether transformers has loaded weights of a model: it marks the parameters that it need not initialise."""
    return any(getattr(parameter, "_is_hf_initialized", False) for parameter in model.parameters())


def _warn(finding: Finding) -> None:
    said = [f"{finding.code} {finding.name}: {finding.message}"]
    if finding.fixes:
        said.append(f"remedy: {', '.join(finding.fixes)}")
    said.append(f"see `unstuck rule {finding.code}`")
    place = finding.location
    if place is None:
        warnings.warn("; ".join(said), FindingWarning, stacklevel=3)
    else:
        warnings.warn_explicit("; ".join(said), FindingWarning, place.file, place.line)
