"""T005. After https://docs.pytorch.org/docs/stable/data.html (`drop_last`, iterators of a DataLoader)."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MAX_EMPTY_LOOPS = 0  # a loop over no batches does nothing
MAX_BACKWARDS = 50  # backward calls without an update; gradients are hardly ever accumulated over more batches
SUM_TOLERANCE = 1e-6  # of the sum (1); objectives are added up in double precision


class ZeroSteps(Rule):
    """The training loop makes no update: its loader gives no batches, or nothing updates the parameters.

    ## What it does
    Notes each loop over a `DataLoader` that has no batches (a data set smaller than the batch with `drop_last=True`)
    or over an iterator of one that has given all its batches. It fires when the run makes no backward call at all, and,
    as a warning, when a loop gave batches at first and a later pass over it at which the training had gone on does not.
    It also fires when more than 50 backward calls, with gradients cleared in between, have led to no update.

    ## Why is this bad
    The program runs through without an error and ends with the network it began with, or one trained for less than it
    says.

    ## Evidence
    The number of updates and of backward calls.

    ## Stays silent on
    Empty loaders beside a training that goes on, such as one for evaluation; data that is not read through a
    `DataLoader`, and streams (`IterableDataset`), whose length is not known; gradients that are still being
    accumulated.

    ## Example
        loader = DataLoader(dataset, batch_size=512, drop_last=True)  # 480 records
        for x, y in loader:

    ## Fix
    Take a smaller batch or `drop_last=False`; loop over the loader rather than over one iterator of it; call
    `optimizer.step()`.

    ## References
    - torch.utils.data, https://docs.pytorch.org/docs/stable/data.html
    """

    code = "T005"
    name = "zero-steps"
    stage = Stage.DATA
    severity = Severity.ERROR
    needs = (Signal.STEPS,)
    explains = ("L013", "U002", "U005")
    max_backwards = Threshold(MAX_BACKWARDS, "backward calls without an update")

    def lacking(self, trace: Trace) -> str | None:
        """A loop over an empty loader is enough."""
        missing = super().lacking(trace)
        return missing and (None if trace.of_kind(Kind.LOADER) else f"{missing}, or a loop over an empty DataLoader")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield at most one finding: no update at all, or loops that had batches once."""
        facts = trace.facts
        if facts.other_threads:
            return
        if not facts.backward_calls:
            for loop in trace.of_kind(Kind.LOADER)[:1]:
                yield self._report(trace, loop, "the loader has no batches for this loop, and the run makes no update")
            return
        if (site := _never_updated(trace, self.max_backwards)) is not None:
            yield self._report(trace, site, f"{facts.backward_calls} backward calls, and no update of the parameters")
            return
        for loop in trace.of_kind(Kind.LOADER):
            filled = [step for step, _ in trace.scalars(loop, "filled")]
            later = [step for step, _ in trace.scalars(loop, "empty") if filled and step > filled[0]]
            if later and max(trace.objective, default=0) <= later[0]:
                message = f"this loop had batches once; from step {later[0]} on it has none, and training ends"
                yield self._report(trace, loop, message, Severity.WARNING)

    def _report(self, trace: Trace, site: Site, message: str, severity: Severity | None = None) -> Finding:
        steps = [step for step, _ in trace.scalars(site, "empty")] or [0]
        facts = trace.facts
        return self.finding(
            site,
            steps=(steps[0], steps[-1]),
            measured=float(max(1, len(steps)) if site.kind is Kind.LOADER else facts.backward_calls),
            threshold=float(MAX_EMPTY_LOOPS if site.kind is Kind.LOADER else self.max_backwards),
            unit="loops" if site.kind is Kind.LOADER else "backward calls",
            message=message,
            evidence=(
                Evidence("updates", float(facts.optimizer_steps), "updates"),
                Evidence("backward calls", float(facts.backward_calls), "calls"),
            ),
            severity=severity,
        )


def _never_updated(trace: Trace, most: float) -> Site | None:
    """Return the backward call of a run whose parameters nothing updates although their gradients are cleared."""
    facts, sites = trace.facts, trace.of_kind(Kind.BACKWARD)
    if len(sites) != 1 or facts.optimizer_steps or facts.skipped_updates or facts.backward_calls <= most:
        return None
    objectives = dict(trace.vectors(sites[0], "objectives")).get(0)
    if objectives is None or len(objectives) < facts.backward_calls or set(trace.objective) != {0}:
        return None
    total = float(objectives.sum())
    accumulated = abs(trace.objective[0] - total) <= SUM_TOLERANCE * abs(total)
    return None if accumulated else sites[0]
