"""S003. After https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html (-inf minus -inf is NaN)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Kind, Role, Signal, Trace

MAX_ROWS = 0  # rows; the softmax of a row of -inf is 0 / 0


class MaskedOutRow(Rule):
    """A softmax is given a row with nothing but -inf, and makes NaN of it.

    ## What it does
    Counts the rows of each softmax (and of each mask of `scaled_dot_product_attention` that returned non-finite
    numbers) that are -inf throughout, and fires when there were some at a step whose loss or gradients were not finite,
    and at no step that was finite.

    ## Why is this bad
    A softmax divides by the sum of its exponentials, which is zero in such a row. One sequence without a single key to
    look at (empty, or padding only) makes the loss NaN, and the update that follows makes every parameter NaN.

    ## Evidence
    The number of such rows, the first step that had some, and the number of such steps. One such row is enough, so
    there is no threshold to set.

    ## Stays silent on
    Rows with one finite score or more; masks of large finite numbers, which give such a row uniform weights; rows whose
    result is replaced before it does harm, so that loss and gradients stay finite.

    ## Example
        scores = scores.masked_fill(mask[:, None, :], float("-inf"))  # mask is all True for an empty sequence
        weights = scores.softmax(-1)

    ## Fix
    Leave every row something to look at (a start symbol, the place itself), mask with a large finite number, or set the
    weights of such rows to zero in the mask's own place rather than after the softmax.

    ## References
    - Numerical accuracy, https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
    - torch.nn.MultiheadAttention gives NaN for fully masked rows, https://github.com/pytorch/pytorch/issues/41508
    """

    code = "S003"
    name = "masked-out-row"
    stage = Stage.LOSS
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.LOSS_VALUES)
    explains = ("A003", "A006", "G005", "L011", "L012", "L013")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each softmax by what became of the steps at which it had such rows."""
        bad = _bad_steps(trace)
        for site in trace.of_kind(Kind.SOFTMAX, Kind.ATTENTION):
            rows = {step: count for step, count in trace.scalars(site, "masked_rows") if count > MAX_ROWS}
            if not rows or not bad.issuperset(rows) or _broken_before(trace, min(rows)):
                continue
            first = min(rows)
            yield self.finding(
                site,
                steps=(first, max(rows)),
                measured=rows[first],
                threshold=float(MAX_ROWS),
                unit="rows",
                message=(
                    f"{rows[first]:.0f} rows given to {site.label} are -inf throughout at step {first}, and their "
                    f"result is NaN"
                ),
                evidence=(
                    Evidence("first step", float(first), "steps"),
                    Evidence("sampled steps with such rows", float(len(rows)), "steps"),
                ),
            )


def _bad_steps(trace: Trace) -> set[int]:
    """Return the steps whose loss, or the gradient of a parameter, was not finite."""
    bad = {step for step, value in trace.objective.items() if not math.isfinite(value)}
    for parameter in trace.of_kind(Kind.PARAMETER):
        bad.update(step for step, summary in trace.summaries(parameter, Role.GRADIENT) if summary.nonfinite)
    return bad


def _broken_before(trace: Trace, step: int) -> bool:
    """Tell whether the loss was not finite at an earlier step that was sampled: then something else broke it."""
    return any(
        earlier < step and not math.isfinite(value) and earlier in trace.steps
        for earlier, value in trace.objective.items()
    )
