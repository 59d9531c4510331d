"""Repairs a network before its training: propose, apply, measure again, train on trial, keep or put back.

Remedies change the network in place, because losses, optimizers and closures hold on to its tensors; everything was
kept before (`state.Snapshot`), and what is not proven is put back bit for bit. A trial trains the network for some
steps with the same batches and the same random numbers as the trial before it, and is undone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unstuck.capture.session import Session
from unstuck.findings import Finding
from unstuck.fixes.catalogue import all_remedies
from unstuck.fixes.fix import Applicability, Fix, Proof
from unstuck.fixes.forward import ForwardRepairer
from unstuck.fixes.remedy import LOADED, Patient, Remedy, Withheld
from unstuck.fixes.targets import Target
from unstuck.fixes.task import Task, Training
from unstuck.rules.causes import group
from unstuck.trace import Trace

MAX_TRIALS = 10
NOISE = 2.0  # standard errors of the difference between two trials; below it neither is worse
TOLERANCE = 0.01  # of the loss; as much may always be rounding, where trials repeat themselves exactly
LEARNED = 0.2  # of the lower starting loss; how fast a single batch is memorised below that says nothing of training

Judge = Callable[[Trace], Sequence[Finding]]
"""Says what is wrong by a trace."""


@dataclass
class Repair:
    """What was done to a network: all fixes that were tried, in order, and why remedies were withheld.

    `before` and `after` are the trials without any fix and with those that were kept, `findings` what the latter shows.
    """

    before: Training
    after: Training
    findings: Sequence[Finding]
    fixes: list[Fix] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    available: list[str] = field(default_factory=list)  # unsafe remedies that were not asked for


def repair(task: Task, judge: Judge, *, unsafe: bool, steps: int) -> Repair:
    """Mend the network of `task` in place, root causes first, until nothing more can be mended.

    Each remedy is tried on its own for `steps` steps, in at most ten trials; only those are kept that make their
    finding go and the loss no worse. Without `unsafe` only safe remedies are applied. What the limit kept from
    being tried is told in `withheld`.
    Raises what the model raises without any; the network is then as it was.
    """
    begun = task.train(steps)
    result = Repair(begun, begun, judge(begun.session.trace))
    tried: set[tuple[str, str]] = set()
    before, trials = task.snapshot(), 0
    try:
        while candidate := next(_candidates(task, result, tried, unsafe=unsafe), None):
            finding, remedy = candidate
            if trials == MAX_TRIALS:
                rest = len(list(_candidates(task, result, tried, unsafe=unsafe))) - 1
                more = f" and {rest} more" if rest else ""
                place = finding.location or finding.site
                result.withheld.append(f"{remedy.name} at {place}{more}: not tried, {MAX_TRIALS} trials are the most")
                break
            tried.add((remedy.name, finding.site))
            trials += _try(task, judge, steps, result, finding, remedy)
    except BaseException:
        before.restore()
        raise
    return result


def _candidates(
    task: Task, result: Repair, tried: set[tuple[str, str]], *, unsafe: bool
) -> Iterator[tuple[Finding, Remedy]]:
    """Yield what may be tried next: a finding and a remedy for it, root causes first."""
    causes = group(result.findings)
    ordered = [f for cause in causes for f in (cause.root, *cause.also)] + [f for c in causes for f in c.symptoms]
    for finding in ordered:
        for name in finding.fixes:
            remedy = all_remedies()[name]()
            if (name, finding.site) in tried or remedy.applicability is Applicability.DISPLAY:
                continue
            text = None
            if remedy.applicability is Applicability.UNSAFE and not unsafe:
                if name not in result.available:
                    result.available.append(name)
            elif remedy.applicability is Applicability.UNSAFE and task.pretrained:
                text = f"{name} at {finding.location or finding.site}: {LOADED}"
            else:
                yield finding, remedy
            if text is not None and text not in result.withheld:
                result.withheld.append(text)


def _try(task: Task, judge: Judge, steps: int, result: Repair, finding: Finding, remedy: Remedy) -> bool:
    """Apply a remedy, train on trial, and keep it or put it back; what happened is added to `result`.

    Tells whether there was a trial: none is made of a remedy that refuses.
    """
    before = task.snapshot()
    try:
        fixes = remedy.apply(patient_of(task, result.after.session), finding)
    except Withheld as reason:
        before.restore()
        result.withheld.append(f"{remedy.name} at {finding.location or finding.site}: {reason}")
        return False
    try:
        after = task.train(steps)
    except Exception as error:  # noqa: BLE001  (without the remedy it has trained)
        before.restore()
        text = f"{type(error).__name__}: {error}"
        result.withheld.append(f"{remedy.name} at {finding.location or finding.site}: training fails with it ({text})")
        return True
    findings = judge(after.session.trace)
    gone = is_gone(finding, result.findings, findings)
    proof = Proof(steps, result.after.loss, after.loss, gone)
    worse = is_worse(result.after, after)
    kept = gone and not worse
    why = "" if kept else ("the loss became worse" if worse else f"{finding.code} is still found")
    result.fixes.extend(replace(fix, proof=proof, kept=kept, why=why) for fix in fixes)
    if kept:
        result.after, result.findings = after, findings
    else:
        before.restore()
    return True


def patient_of(task: Task, session: Session) -> Patient:
    """Return what a remedy may see and touch of a task that `session` has watched."""

    def repeat(names: Sequence[str]) -> list[Fix]:
        repairer = ForwardRepairer(names)
        task.first_pass(repairer)
        if not repairer.applied and repairer.withheld:
            raise Withheld(repairer.withheld[0])
        return list(repairer.applied)

    def rescale(aims: Mapping[int, Target]) -> list[Fix]:
        repairer = ForwardRepairer(["rescale-weights"], aims)
        task.first_pass(repairer)
        return list(repairer.applied)

    return Patient(
        session, [task.model], task.optimizers, task.batches, task.forward, repeat, rescale, pretrained=task.pretrained
    )


def is_gone(finding: Finding, before: Sequence[Finding], after: Sequence[Finding]) -> bool:
    """Tell whether a fault is found no more: not at its place, and at fewer places than before.

    The second since a remedy that changes the structure gives places other names.
    """
    sites = [[other.site for other in findings if other.code == finding.code] for findings in (before, after)]
    return finding.site not in sites[1] and len(sites[1]) < len(sites[0])


def is_worse(before: Training, after: Training) -> bool:
    """Tell whether the second of two trials ended worse by more than the noise between them.

    The noise is the standard error of the paired differences over the last tenth of the steps (same batches). Of two
    trials that both have memorised their only batch neither is worse.
    """
    if not math.isfinite(before.loss):
        return False
    if not math.isfinite(after.loss):
        return True
    learned = LEARNED * min(before.losses[0], after.losses[0])
    if after.one_batch and max(before.loss, after.loss) < learned:
        return False
    count = max(1, len(before.losses) // 10)
    pairs = zip(before.losses[-count:], after.losses[-count:], strict=False)
    differences = [later - earlier for earlier, later in pairs]
    mean = sum(differences) / count
    variance = sum((difference - mean) ** 2 for difference in differences) / max(1, count - 1)
    return mean > NOISE * math.sqrt(variance / count) + TOLERANCE * abs(before.loss)
