"""T006. After https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.objective import HAND_WRITTEN, STEADY, is_scale_free
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MAX_UNDIVIDED = 1  # backward calls of whole mean losses an update; the sum of two has twice the gradient of their mean
MAX_SHARE = 0.5  # of the sampled steps
SUM_TOLERANCE = 1e-3  # of the sum (1); objectives of float32 are added up in double precision


class UndividedAccumulation(Rule):
    """Gradients of several batches are added up, and the loss of each is not divided by their number.

    ## What it does
    Compares, at sampled steps with several backward calls in one place before one update, what each was called on with
    the mean loss that the same pass computed. It fires when they are equal, not a k-th of it, at more than half of the
    sampled steps, when the gradients really add up, and when all these passes go through the same layers. With Adam
    and its kind, whose updates do not depend on the scale of the loss, the finding is information.

    ## Why is this bad
    The sum of k gradients of mean losses is k times the gradient of the mean over the k batches: the learning rate is
    k times what it says, and clipping bounds and weight decay no longer fit.

    ## Evidence
    The number of backward calls an update.

    ## Stays silent on
    Losses divided by the number of batches or of all their terms; losses summed over a batch; several losses or heads
    that each get a backward call of their own; networks that are updated by turns (a GAN); closures; losses that are
    written by hand, for which it is not known what was divided.

    ## Example
        for x, y in batches:              # 8 of them
            F.mse_loss(model(x), y).backward()
        optimizer.step()

    ## Fix
    `(loss / len(batches)).backward()`.

    ## References
    - Gradient accumulation, https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
    """

    code = "T006"
    name = "undivided-accumulation"
    stage = Stage.GRADIENT
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.LOSS_VALUES)
    explains = (
        *("A001", "A002", "A003", "A006", "G002", "G005", "G007"),
        *("U001", "U003", "L011", "L012", "L013", "L014"),
    )
    max_share = Threshold(MAX_SHARE, "of the sampled steps")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each place where backward is called, unless several optimizers play against each other."""
        if sum(not site.ordinal for site in trace.of_kind(Kind.OPTIMIZER)) > 1:
            return
        for site in trace.of_kind(Kind.BACKWARD):
            if (finding := self._judge(trace, site)) is not None:
                yield finding

    def _judge(self, trace: Trace, site: Site) -> Finding | None:
        sampled = [(step, values) for step, values in trace.vectors(site, "objectives") if np.isfinite(values).all()]
        whole = {step: len(objectives) for step, objectives in sampled if _undivided(trace, site, step, objectives)}
        if not whole or not seen_enough(trace, len(whole)) or len(whole) / len(sampled) <= self.max_share:
            return None
        calls = float(np.median(list(whole.values())))
        return self.finding(
            site,
            steps=(min(whole), max(whole)),
            measured=calls,
            threshold=float(MAX_UNDIVIDED),
            unit="backward calls an update",
            message=(
                f"{calls:g} backward calls an update, each on the whole mean loss of its batch: together the gradient "
                f"of {calls:g} times the mean"
            ),
            evidence=(Evidence("sampled steps", float(len(whole)), "steps"),),
            severity=Severity.INFO if is_scale_free(trace) else None,
        )


def _undivided(trace: Trace, site: Site, step: int, objectives: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    """Tell whether all backward calls of a step were made on mean losses of the same kind, and add up."""
    total = float(objectives.sum())
    added = abs(trace.objective.get(step, np.inf) - total) <= SUM_TOLERANCE * abs(total)
    if len(objectives) <= MAX_UNDIVIDED or not added or trace.scalar(site, "alike", step) != 1.0:
        return False
    calls = [call for call in trace.loss_calls if call.step == step]
    if len({call.site for call in calls}) != 1 or len(calls) != len(objectives):
        return False
    if trace.sites[calls[0].site].op == HAND_WRITTEN:
        return False
    values = np.array([call.value for call in calls])
    return bool(np.all(np.abs(objectives - values) <= STEADY * np.abs(values)))
