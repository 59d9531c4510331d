"""The public functions: they only compose the rooms."""

from __future__ import annotations

import os
import platform
import random
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from unstuck._version import __version__
from unstuck.capture.intervention import Intervention
from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.config import Config, load
from unstuck.findings import Finding, Severity
from unstuck.fixes.fix import Fix
from unstuck.fixes.fold_bias import fold_redundant
from unstuck.fixes.inflight import InflightRepairer
from unstuck.report import NotChecked, Report, RunInfo
from unstuck.rules.catalogue import check_thresholds, choose, get_rule
from unstuck.rules.causes import causal_order, group
from unstuck.rules.rule import Rule
from unstuck.rules.silence import is_silenced
from unstuck.trace import Trace

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


class Run:
    """A stretch of training under watch; made by `watch`, used as a context manager.

    `report()` may be asked during the run and after it. Everything is undone when the block ends, however it ends.
    """

    def __init__(
        self, config: Config, *, fix: bool = False, max_steps: int | None = None, title: str = "training"
    ) -> None:
        self.config = config
        self.title = title
        self.command: tuple[str, ...] = ()
        self.exit_code: int | None = None
        self.stopped = False
        chosen(config)  # an unknown code is an error now, not after hours of training
        self._repairer = InflightRepairer() if fix else None
        self.session = Session(
            Schedule(config.every, config.overhead), max_steps=max_steps, intervention=self._repairer
        )
        self._begun = self._ended = 0.0
        self._started = ""

    def __enter__(self) -> Run:
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._begun = time.perf_counter()
        self.session.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = time.perf_counter()
        self.session.stop()

    @property
    def fixes(self) -> tuple[Fix, ...]:
        """What was mended in flight."""
        return tuple(self._repairer.applied) if self._repairer else ()

    def report(self) -> Report:
        """Judge what was seen so far."""
        self.session.note_cost()
        trace = self.session.trace.snapshot()
        ended = self._ended or time.perf_counter()
        run = RunInfo(
            self.title,
            self.command,
            versions(),
            self._started,
            self.session.steps,
            ended - self._begun,
            trace.facts.watching.seconds,
            self.exit_code,
            self.stopped,
        )
        withheld = tuple(self._repairer.withheld) if self._repairer else ()
        if self._repairer and self.session.one_of_many:
            withheld += ("repairs in flight: each process would mend its own copy; mend the network in one process",)
        return make_report(trace, self.config, run, self.fixes, withheld)


def make_report(
    trace: Trace, config: Config, run: RunInfo, fixes: Sequence[Fix] = (), withheld: Sequence[str] = ()
) -> Report:
    """Judge a trace and gather everything in a report."""
    findings, not_checked, silenced = judge(trace, config)
    causes = tuple(group(findings))
    return Report(findings, causes, not_checked, trace, tuple(fixes), tuple(withheld), run, silenced)


def watch(
    *,
    every: int | None = None,
    overhead: float | str | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    fix: bool = False,
    pretrained: bool = False,
) -> Run:
    """Watch the training that happens inside a `with` block; needs neither model nor optimizer.

        with unstuck.watch() as run:
            train()
        print(run.report())

    `overhead` is the share of the training time that watching may add (0.01 or "1%", the default); `every` samples each
    N-th step instead. `select` and `ignore` choose rules by code or prefix; `fix` mends the network's initialisation
    during the first forward pass; `pretrained` says that it does not start from its initialisation (known without
    saying when `load_state_dict` is called inside the block). Raises ConfigError for a setting that cannot be used,
    UnknownRuleError for a code no rule has, and SessionError when another run is being watched.
    """
    run = Run(load(every=every, overhead=overhead, select=select, ignore=ignore), fix=fix)
    run.session.trace.facts.weights_loaded = pretrained
    return run


LossFunction = Callable[[Any, Any], Tensor]


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
    session, run = _probe(model, batch, loss_fn, pretrained=pretrained)
    return make_report(session.trace, config, run)


def fix(
    model: nn.Module,
    batch: tuple[Any, Any],
    loss_fn: LossFunction,
    *,
    unsafe: bool = False,
    pretrained: bool = False,
) -> Report:
    """Mend a network before training, in place, and return the report of a check made afterwards.

    Safe remedies keep the function the network computes; with `unsafe` its initialisation is mended as well (never
    with `pretrained`). The report's `fixes` say what was changed, with the numbers before and after. Arguments and
    errors as for `check`.
    """
    repairer = InflightRepairer(fold_biases=False)
    session, _ = _probe(model, batch, loss_fn, pretrained=pretrained, intervention=repairer if unsafe else None)
    folded = fold_redundant(session, model)
    after, run = _probe(model, batch, loss_fn, pretrained=pretrained)
    return make_report(after.trace, load(), run, [*repairer.applied, *folded], repairer.withheld)


def assert_trainable(
    model: nn.Module, batch: tuple[Any, Any], loss_fn: LossFunction, *, pretrained: bool = False
) -> None:
    """Raise AssertionError, with the report as its message, when `check` finds anything of warning or worse."""
    report = check(model, batch, loss_fn, pretrained=pretrained)
    if report.worst >= Severity.WARNING:
        raise AssertionError(f"the network is not ready to train\n{report}")


def explain(code: str) -> str:
    """Return a rule's documentation by its code or name; raises UnknownRuleError with the nearest match."""
    rule = get_rule(code)
    return f"{rule.code} {rule.name}\n\n{rule.documentation()}"


def _probe(
    model: nn.Module,
    batch: tuple[Any, Any],
    loss_fn: LossFunction,
    *,
    pretrained: bool,
    intervention: Intervention | None = None,
) -> tuple[Session, RunInfo]:
    """Make one watched forward and backward pass and put everything but mended parameters back."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(f"batch must be a pair (inputs, targets), got {type(batch).__name__}")
    inputs, targets = batch
    if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
        raise ValueError("the model has lazy parameters without a shape yet; run it once on a batch, then check it")
    session = Session(intervention=intervention)
    session.trace.facts.weights_loaded = pretrained
    begun = time.perf_counter()
    mended = intervention is not None
    with torch.inference_mode(False), _left_as_it_was(model, loss_fn, mended=mended), torch.enable_grad(), session:
        loss = _loss(loss_fn(_call(model, _apart(inputs)), _apart(targets)))
        loss.backward()  # type: ignore[no-untyped-call]
    title, seconds = f"a check of {type(model).__name__}", time.perf_counter() - begun
    return session, RunInfo(title, (), versions(), "", session.steps, seconds, session.seconds, probe=True)


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def _apart(value: Any) -> Any:
    """Return the batch with tensors that require grad replaced by detached ones, so that theirs stay as they are."""
    if isinstance(value, Tensor):
        value = value.clone() if value.is_inference() else value
        return value.detach().requires_grad_() if value.requires_grad else value
    if type(value) in (tuple, list):
        return type(value)(_apart(item) for item in value)
    return {key: _apart(item) for key, item in value.items()} if type(value) is dict else value


def _loss(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError(f"loss_fn must return a tensor with one element, got {_describe(loss)}")
    if not loss.requires_grad:
        raise ValueError("the loss does not depend on any parameter that requires grad; is the whole model frozen?")
    return loss


def _describe(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


@contextmanager
def _left_as_it_was(model: nn.Module, loss_fn: object, *, mended: bool) -> Iterator[None]:
    """Put everything the pass may change back when the block ends; with `mended`, parameters stay as they are left.

    That is: parameters, gradients, buffers (also those that forward replaces or fills), modes, random generators.
    """
    roots = [model, *([loss_fn] if isinstance(loss_fn, nn.Module) else [])]
    modules = [module for root in roots for module in root.modules()]
    parameters = list({id(p): p for root in roots for p in root.parameters()}.values())
    values = [] if mended else [(p, p.detach().clone()) for p in parameters]
    gradients = [(p, p.grad) for p in parameters]
    buffers = [
        (m, {name: (b, None if b is None else b.detach().clone()) for name, b in m._buffers.items()}) for m in modules
    ]
    modes = [(m, m.training) for m in modules]
    generators = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            for parameter in parameters:
                parameter.grad = None
            yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        with torch.no_grad():
            for parameter, value in values:
                if not torch.equal(parameter, value):
                    parameter.copy_(value)
            for module, held in buffers:
                _put_buffers_back(module, held)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, training in modes:
            module.training = training


def _put_buffers_back(module: nn.Module, held: dict[str, tuple[Tensor | None, Tensor | None]]) -> None:
    module._buffers.clear()
    for name, (buffer, value) in held.items():
        if buffer is not None and value is not None:
            buffer.copy_(value)
        module._buffers[name] = buffer
