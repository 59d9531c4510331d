"""D002. After https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.inputs import float_inputs
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_NONFINITE = 0  # elements; a layer turns a single NaN into a NaN of every unit
NAMED = 3  # features that are named one by one


class NonfiniteInput(Rule):
    """The data holds NaN or infinite values when it enters the network.

    ## What it does
    Looks at the float data that layers are given from outside the network and fires when any of it is NaN or infinite
    at a sampled step, or at one with such a loss whose graph tells so (L011), while all parameters are still finite.
    The finding is an error when the loss is not finite at that step or later, and a warning when it stays finite.

    ## Why is this bad
    A layer mixes all features of an example, so one NaN makes every unit of that example NaN, and through the mean
    over the batch the loss and all gradients. One update with them destroys every parameter.

    ## Evidence
    The first such step, the number of such steps, the share of the elements, and the features concerned. One such
    element is enough, so there is no threshold to set.

    ## Stays silent on
    Missing values that are replaced before they reach a layer, and masks, which are no layer's input; data made by the
    network itself; any data once a parameter is not finite.

    ## Example
        x = counts.log()  # minus infinity for a count of zero
        x = (x - x.mean(0)) / x.std(0)  # 0 / 0 for a constant feature

    ## Fix
    Find the operation that makes them where the data is read: `log1p` instead of `log`, a small number added to the
    denominator, missing entries replaced with an indicator feature beside them.

    ## References
    - Numerical accuracy, https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
    """

    code = "D002"
    name = "nonfinite-input"
    stage = Stage.DATA
    severity = Severity.ERROR
    needs = (Signal.STEPS,)
    explains = ("A001", "A003", "A006", "D001", "G004", "G005", "L011", "L012", "L013", "N003", "N009", "U005", "U007")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs float data."""
        if missing := super().lacking(trace):
            return missing
        seen = any(float_inputs(trace, Kind.NORM))
        return None if seen else "float data that a layer takes from outside the network"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the data of each layer at every sampled step."""
        broken = _first_broken_parameter(trace)
        for site in float_inputs(trace, Kind.NORM):
            steps, numbers = trace.series(site, Role.INPUT, "nonfinite")
            bad = steps[numbers > MAX_NONFINITE]
            told = [step for step, _ in trace.scalars(site, "born_in_input")]  # of a step that was not sampled
            bad = np.union1d(bad, np.array(told, dtype=np.int64))
            if len(bad) and int(bad[0]) < broken:
                yield self._report(trace, site, bad, float(numbers.max()))

    def _report(
        self, trace: Trace, site: Site, bad: np.ndarray[tuple[int, ...], np.dtype[np.int64]], most: float
    ) -> Finding:
        first = int(bad[0])
        summary = trace.summary(site, Role.INPUT, first)
        told = int(trace.scalar(site, "born_in_input", first) or most)
        number, count = told, int(trace.scalar(site, "born_in_input_of", first) or most)
        if summary is not None:
            number, count = summary.nonfinite, summary.count
        message = f"{number} of {count} elements of the input of {site.label} are NaN or infinite at step {first}"
        if summary and summary.units is not None and len(summary.units) > 1:
            features = np.flatnonzero(summary.units.nonfinite).tolist()
            if len(features) <= NAMED:
                message += f", in feature{'s' * (len(features) > 1)} {', '.join(map(str, features))}"
            else:
                message += f", in {len(features)} of {len(summary.units)} features"
        harmed = any(step >= first and not math.isfinite(value) for step, value in trace.objective.items())
        return self.finding(
            site,
            steps=(first, int(bad[-1])),
            measured=float(number),
            threshold=float(MAX_NONFINITE),
            unit="elements",
            message=message,
            evidence=(
                Evidence("first step", float(first), "steps"),
                Evidence("steps seen with such data", float(len(bad)), "steps"),
                Evidence("share of the elements", 100 * number / max(1, count), "%"),
            ),
            severity=Severity.ERROR if harmed else Severity.WARNING,
        )


def _first_broken_parameter(trace: Trace) -> float:
    """Return the first sampled step at which a parameter was not finite before its update; infinity if none was."""
    first = math.inf
    for parameter in trace.of_kind(Kind.PARAMETER):
        steps, numbers = trace.series(parameter, Role.VALUE, "nonfinite")
        first = min(first, *steps[numbers > 0].tolist(), math.inf)
    return first
