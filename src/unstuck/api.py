"""The public functions: they only compose the rooms."""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from unstuck import ranks
from unstuck._version import __version__
from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session, StopTraining
from unstuck.config import Config, load
from unstuck.findings import Finding, Severity
from unstuck.fixes.engine import repair
from unstuck.fixes.fix import Fix
from unstuck.fixes.fold_bias import is_folded
from unstuck.fixes.inflight import InflightRepairer
from unstuck.fixes.task import LossFunction, Task
from unstuck.proposals import source_patches
from unstuck.report import NotChecked, Report, RunInfo
from unstuck.rules.catalogue import check_thresholds, choose, get_rule
from unstuck.rules.causes import causal_order, group
from unstuck.rules.rule import Rule
from unstuck.rules.silence import is_silenced
from unstuck.trace import Stretch, Trace
from unstuck.trace.ending import exception_line
from unstuck.trace.folder import forget
from unstuck.trace.processes import as_stored
from unstuck.trace.recording import Recording, begin_recording

TRIAL_STEPS = 200  # of a fix; enough for a loss to show whether it got worse

MENDING = "mending: it failed inside; please report this with the script that showed it"
"""What a rule lacks that raised an exception."""


def versions() -> dict[str, str]:
    """Return the versions that matter for a report of a fault."""
    return {"unstuck": __version__, "torch": torch.__version__, "python": platform.python_version()}


def chosen(config: Config) -> list[Rule]:
    """Return the rules that a configuration chooses; raises UnknownRuleError for what it names and nobody knows."""
    check_thresholds(config.thresholds)
    for codes in config.per_site_ignores.values():
        choose(codes)
    rules = choose(config.select, config.ignore, config.extend_select)
    return [rule(config.thresholds.get(rule.code)) for rule in rules]


def judge(trace: Trace, config: Config) -> tuple[tuple[Finding, ...], tuple[NotChecked, ...], tuple[Finding, ...]]:
    """Let the chosen rules read a trace.

    Returns the findings in causal order, the rules that could not judge, and the findings that the user has silenced.
    """
    findings: list[Finding] = []
    not_checked: list[NotChecked] = []
    for rule in chosen(config):
        try:
            lacking = rule.lacking(trace)
            if lacking is None:
                findings.extend(list(rule.detect(trace)))
        except Exception as error:  # noqa: BLE001  (one rule's fault must not cost the user the others' findings)
            where = traceback.extract_tb(error.__traceback__)[-1]
            lacking = f"{MENDING} ({type(error).__name__}: {error}, {os.path.basename(where.filename)}:{where.lineno})"
        if lacking is not None:
            not_checked.append(NotChecked(rule.code, rule.name, lacking))
    findings.sort(key=causal_order)
    silenced = tuple(finding for finding in findings if is_silenced(finding, config.per_site_ignores))
    return tuple(finding for finding in findings if finding not in silenced), tuple(not_checked), silenced


def judge_stretches(
    trace: Trace, stretches: Sequence[Stretch], config: Config
) -> tuple[tuple[Finding, ...], tuple[NotChecked, ...], tuple[Finding, ...]]:
    """Let the chosen rules read the last of a run's stretches; returns what `judge` does.

    Rules that this one cannot be judged by (it may be too short, or not begin with the start of training) read the
    one before, unless what they tell of was mended since; those before training began again count for nothing.
    """
    if not stretches:
        return judge(trace, config)
    findings, lacking, silenced = judge(stretches[-1].of(trace), config)
    settled: set[str] = set()
    for later, stretch in zip(reversed(stretches), reversed(stretches[:-1]), strict=False):
        open_codes = {rule.code for rule in lacking} - settled.union(stretch.settled)
        if later.starts or not open_codes:
            break
        settled.update(stretch.settled)
        found, still_lacking, hidden = judge(stretch.of(trace), config)
        known = open_codes - {rule.code for rule in still_lacking}
        findings = tuple(sorted([*findings, *(f for f in found if f.code in known)], key=causal_order))
        silenced += tuple(f for f in hidden if f.code in known)
        lacking = tuple(rule for rule in lacking if rule.code not in known)
    return findings, lacking, silenced


class Follower(Protocol):
    """Is told of a run while it goes on, in the training's thread; it keeps its own errors to itself."""

    def sampled(self, run: Run) -> None: ...  # noqa: D102  (all is known of the sampled steps so far)
    def ended(self, run: Run) -> None: ...  # noqa: D102  (the watching is over)


class Run:
    """A stretch of training under watch; made by `watch`, used as a context manager.

    `report()` may be asked during the run and after it. The watching is undone when the block ends, however it ends;
    what was mended stays, for it is part of the training: parameters as they were changed, layers that were put in, and
    on the optimizers the factors of their learning rates (`param_groups` show the program's own) and the bounds of
    their gradients.
    """

    def __init__(
        self,
        config: Config,
        *,
        fix: bool = False,
        unsafe_fixes: bool = False,
        max_steps: int | None = None,
        title: str = "training",
        recording: Recording | None = None,
        record: bool | str | os.PathLike[str] = False,
    ) -> None:
        self.config = config
        self.title = title
        self.command: tuple[str, ...] = ()
        self.exit_code: int | None = None
        self.stopped = False
        self.exception = self.signal = ""  # what ended it; see `unstuck.trace.ending`
        chosen(config)  # an unknown code is an error now, not after hours of training
        self._repairer: InflightRepairer | None = None
        if fix or unsafe_fixes:
            self._repairer = InflightRepairer(lambda trace: judge(trace, config)[0], unsafe=unsafe_fixes)
        self.session = Session(
            Schedule(config.every, config.overhead), max_steps=max_steps, intervention=self._repairer
        )
        ranks.join(self.session)
        self._begun = self._ended = self._clock = 0.0
        self._started = ""
        self._versions = versions()
        self._recording = recording  # ended by who gave it
        self._record = record
        self.followers: list[Follower] = []

    def __enter__(self) -> Run:
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._begun, self._clock = time.perf_counter(), time.time()
        if self._record is not False and not (self.session.one_of_many and ranks.own_rank()):
            self._recording = begin_recording(self._record, self.title, self.config)
        if self._recording is not None:
            self._recording.follow(self.session.trace, self._about)
            self._recording.hand_over(self.session.trace, self._about())  # that there is such a run
        self.session.when_complete = self._hand_over
        try:
            self.session.start()
        except BaseException:
            if self._recording is not None:
                self._recording.discard(self.session.trace)
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._ended = time.perf_counter()
        if isinstance(error, KeyboardInterrupt):
            self.signal = "SIGINT"
        elif error is not None and not isinstance(error, StopTraining | SystemExit):
            self.exception = exception_line(error)
        self.session.stop()
        if self._record is not False:
            self.end_recording(self.report())
        for follower in self.followers:
            follower.ended(self)

    @property
    def fixes(self) -> tuple[Fix, ...]:
        """What was mended in flight."""
        return tuple(self._repairer.applied) if self._repairer else ()

    def report(self) -> Report:
        """Judge what was seen so far."""
        self.session.note_cost()
        trace = self.session.trace.snapshot()
        return make_report(trace, self.config, self._info(), self.fixes, self._withheld(), stretches=self._stretches())

    def _info(self) -> RunInfo:
        return RunInfo(
            self.title,
            self.command,
            self._versions,
            self._started,
            self.session.steps,
            (self._ended or time.perf_counter()) - self._begun,
            self.session.trace.facts.watching.seconds,
            self.exit_code,
            self.stopped,
            exception=self.exception,
            signal=self.signal,
        )

    def _stretches(self) -> tuple[Stretch, ...]:
        return tuple(self._repairer.stretches) if self._repairer else ()

    def _withheld(self) -> list[str]:
        if self._repairer is None:
            return []
        withheld = [*self._repairer.withheld, *announcement(self._repairer.available)]
        if self.session.one_of_many:
            withheld.append("each of several processes would mend its own copy; mend the network in one process")
        return withheld

    # -- recording -------------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Have a sampled step written down, now that it is complete."""
        trace = self.session.trace
        if self._recording is not None and trace.journal is not None and trace.journal.tables:
            self.session.note_cost()
            self._recording.hand_over(trace, self._about())
        for follower in self.followers:
            follower.sampled(self)

    def _about(self) -> dict[str, Any]:
        """Return what a stored run needs, beside the trace, to give the same report."""
        return {
            "run": self._info(),
            "begun": self._clock,
            "config": self.config,
            "stretches": self._stretches(),
            "fixes": self.fixes,
            "withheld": self._withheld(),
            **as_stored(os.getpid()),
        }

    def end_recording(self, report: Report) -> Path | None:
        """Write down what is left, and the verdict; returns the file, None when there is none or it is not whole.

        A run that never trained, and has nothing to say of why, leaves no file; nor does one that rank 0 keeps.
        """
        recording = self._recording
        if recording is None:
            return None
        first = self.session.others is None or self.session.others.first
        if not first or not (report.trace.facts.backward_calls or report.causes):
            recording.discard(self.session.trace)
            forget(recording.path)
            return None
        roots = [cause.root for cause in report.causes if cause.root.severity > Severity.INFO]
        verdict = {"ok": report.ok, "causes": [f"{root.code} {root.name}" for root in roots]}
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        recording.close(self.session.trace, {**self._about(), "verdict": verdict, "ended": ended})
        return recording.path if recording.failure is None else None


def announcement(available: Sequence[str]) -> list[str]:
    """Return the line that announces the unsafe repairs that were not asked for."""
    if not available:
        return []
    names = ", ".join(dict.fromkeys(text.split(" at ")[0] for text in available))
    return [f"{names}: only with --unsafe-fixes (unsafe=True), for they change the training"]


def make_report(
    trace: Trace,
    config: Config,
    run: RunInfo,
    fixes: Sequence[Fix] = (),
    withheld: Sequence[str] = (),
    *,
    stretches: Sequence[Stretch] = (),
) -> Report:
    """Judge a trace, by the `stretches` between mendings where there are any, and gather everything in a report."""
    findings, not_checked, silenced = judge_stretches(trace, stretches, config)
    findings = tuple(finding for finding in findings if not is_folded(finding, trace, fixes))
    causes = tuple(group(findings))
    return Report(findings, causes, not_checked, trace, tuple(fixes), tuple(withheld), run, silenced, source_patches)


def watch(
    *,
    every: int | None = None,
    overhead: float | str | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    fix: bool = False,
    unsafe_fixes: bool = False,
    pretrained: bool = False,
    record: bool | str | os.PathLike[str] | None = None,
    log_to: object = None,
) -> Run:
    """Watch the training that happens inside a `with` block; needs neither model nor optimizer.

        with unstuck.watch() as run:
            train()
        print(run.report())

    `overhead` is the share of the training time that watching may add (0.01 or "1%", the default); `every` samples each
    N-th step instead. `select` and `ignore` choose rules by code or prefix; `fix` mends what can be mended without
    changing the training (outputs in training mode stay equal), `unsafe_fixes` also its initialisation during the first
    forward pass, its learning rate and dead units later; `pretrained` says that it does not start from its
    initialisation (known without saying when `load_state_dict` is called inside the block), and has unsafe fixes
    withheld. `record=True` keeps the run below `.unstuck`, where `unstuck report latest` finds it, a path in that
    folder or .sqlite file (of several processes, rank 0 does); of one that dies, all but the last two seconds are kept.
    `log_to` names a tracker ("wandb", "mlflow", "tensorboard", "trackio"), is a run or writer of one, or a list: it is
    given the numbers of each site at the sampled steps, and the report. Raises ConfigError for a setting that cannot be
    used and UnknownRuleError for a code no rule has; entering the block raises SessionError when another run is being
    watched, and StoreError (a ValueError) where nothing can be written.
    """
    config = load(every=every, overhead=overhead, select=select, ignore=ignore)
    title = Path(sys.argv[0]).name if record and sys.argv[0] else "training"
    run = Run(config, fix=fix, unsafe_fixes=unsafe_fixes, title=title, record=False if record is None else record)
    run.session.trace.facts.weights_loaded = pretrained
    if log_to is not None:
        from unstuck.integrations.trackers import followers

        run.followers += followers(log_to)
    return run


def check(
    model: nn.Module,
    batch: tuple[Any, Any],
    loss_fn: LossFunction,
    *,
    pretrained: bool = False,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Report:
    """Judge a network before training, by one forward and backward pass on one batch.

    `batch` is (inputs, targets); the loss is `loss_fn(model(inputs), targets)`, a scalar tensor. Inputs that are a
    tuple or a dict are spread over the model's arguments. With `pretrained` the rules about initialisation stay
    silent. Parameters, buffers, gradients, modes and random number generators are left exactly as they were, also
    when the model raises. Raises ValueError when `batch` is not a pair.
    """
    config = load(select=select, ignore=ignore)
    return _check(Task(model, batch, loss_fn, pretrained=pretrained), config)


def _check(task: Task, config: Config) -> Report:
    begun = time.perf_counter()
    session = task.first_pass()
    return make_report(session.trace, config, run_info("a check", task, session, begun, probe=True))


def fix(
    model: nn.Module,
    batch: tuple[Any, Any] | Iterable[tuple[Any, Any]],
    loss_fn: LossFunction,
    optimizer: Optimizer | None = None,
    *,
    unsafe: bool = False,
    steps: int = TRIAL_STEPS,
    pretrained: bool = False,
) -> Report:
    """Mend a network before training, in place, and return the report of a trial made afterwards.

    Each remedy is tried on its own, root causes first: it is kept when, in a trial of `steps` steps with the same
    batches and random numbers, its finding is gone and the loss is no worse; else everything is put back bit for bit.
    `batch` is (inputs, targets), or an iterable of such pairs, of which up to `steps` are taken; `optimizer` is the one
    that will train the model (default for the trials: Adam with torch's defaults), and is mended too. Safe remedies
    leave the training as it is (outputs in training mode stay equal); with `unsafe` the others are tried as well, never
    with `pretrained`. The report's `fixes` tell of all that was tried, with the numbers before and after.
    Raises ValueError for batches that are not pairs, and when `steps` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    config, begun = load(), time.perf_counter()
    task = Task(model, batch, loss_fn, optimizer, pretrained=pretrained, limit=steps)
    if len(task.batches) == 1:
        config = replace(config, ignore=(*config.ignore, "D008"))  # that the batch repeats is our own doing
    done = repair(task, lambda trace: judge(trace, config)[0], unsafe=unsafe, steps=steps)
    session = done.after.session
    run = run_info("a repair", task, session, begun)
    return make_report(session.trace, config, run, done.fixes, [*done.withheld, *announcement(done.available)])


def explain(code: str) -> str:
    """Return a rule's documentation by its code or name; raises UnknownRuleError with the nearest match."""
    rule = get_rule(code)
    return f"{rule.code} {rule.name}\n\n{rule.documentation()}"


def run_info(what: str, task: Task, session: Session, begun: float, *, probe: bool = False) -> RunInfo:
    """Say what was done to a task since `begun`, a time of `time.perf_counter`."""
    seconds = time.perf_counter() - begun
    title = f"{what} of {type(task.model).__name__}"
    return RunInfo(title, (), versions(), "", session.steps, seconds, session.seconds, probe=probe)
