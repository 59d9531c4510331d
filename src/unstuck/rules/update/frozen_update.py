"""U005. After https://docs.pytorch.org/docs/stable/optim.html and, on rounding, Goldberg 1991."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.updates import optimizers
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_CHANGES = 0  # sampled updates that changed anything
MIN_GRADIENT = 1e-3  # times the median over the optimizer's parameters; a bias before a batch norm gets rounding noise


class FrozenUpdate(Rule):
    """An optimizer steps on a parameter that has a gradient, and the parameter stays the same to the bit.

    ## What it does
    Compares each parameter of an optimizer before and after its step. It fires when the parameter has a gradient of
    usual size (its rms at least a thousandth of the median over the optimizer's parameters) and no sampled update
    changed any of its elements. There is one finding a layer.

    ## Why is this bad
    The parameter looks trained (it has gradients and is in an optimizer) and keeps its initial value for good.

    ## Evidence
    The number of sampled updates, the rms of the gradient, and the learning rate of its group where it has one.

    ## Stays silent on
    A warm-up that starts at a learning rate of 0, and a schedule that ends there: one update that changes something is
    enough; gradients that are zero or rounding noise; parameters in no optimizer (U004).

    ## Example
        {"params": layer.parameters(), "lr": lr * (depth // n_layers)}  # 0 for all layers but the last

    ## Fix
    Look at the group's learning rate first. If it is not 0, the update is lost: in a copy made by `reshape`, indexing
    or `.to()` within an optimizer of your own, or because it is below the parameter's precision.

    ## References
    - torch.optim, https://docs.pytorch.org/docs/stable/optim.html
    - What Every Computer Scientist Should Know About Floating-Point Arithmetic, https://doi.org/10.1145/103162.103163
    """

    code = "U005"
    name = "frozen-update"
    stage = Stage.UPDATE
    severity = Severity.WARNING
    needs = (Signal.PARAMETER_GRADIENTS, Signal.UPDATES)
    explains = ("L013", "U002", "U003")
    min_gradient = Threshold(MIN_GRADIENT, "times the median gradient of the optimizer's parameters")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an optimizer."""
        if missing := super().lacking(trace):
            return missing
        return None if optimizers(trace) else "the step of an optimizer of torch"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each parameter by all its sampled updates; the weight of a layer stands for its bias."""
        known = optimizers(trace)
        gradients = {index: _gradient(trace, trace.sites[index]) for index in known}
        usual = _usual_gradients(trace, known, gradients)
        frozen = [
            trace.sites[index]
            for index, optimizer in known.items()
            if gradients[index] > 0
            and gradients[index] >= self.min_gradient * usual[optimizer.index]
            and _never_changes(trace, trace.sites[index])
        ]
        frozen.sort(key=lambda site: (-1 if site.owner is None else site.owner, site.index))
        for owner, sites in groupby(frozen, key=lambda site: site.owner):
            if owner is not None:
                parameters = list(sites)
                yield self._report(trace, parameters, known[parameters[0].index], gradients[parameters[0].index])

    def _report(self, trace: Trace, parameters: list[Site], optimizer: Site, gradient: float) -> Finding:
        parameter = parameters[0]
        steps, _ = trace.series(parameter, Role.UPDATE, "rms")
        rates = [rate for _, rate in trace.scalars(optimizer, "lr")]
        names = " and ".join(site.label for site in parameters)
        message = (
            f"{names}: none of {len(steps)} sampled updates by {optimizer.op} changed a bit, with a gradient of "
            f"{gradient:.2g} (rms, median)"
        )
        if rates and not any(rates):
            message += "; the learning rate of its group is 0"
        return self.finding(
            parameter,
            steps=(int(steps[0]), int(steps[-1])),
            measured=float(MAX_CHANGES),
            threshold=float(MAX_CHANGES),
            unit="updates",
            message=message,
            evidence=(
                Evidence("sampled updates", float(len(steps)), "updates"),
                Evidence("rms of the gradient", gradient),
                *([Evidence("learning rate", float(np.median(rates)))] if rates else []),
            ),
        )


def _gradient(trace: Trace, parameter: Site) -> float:
    """Return the median rms of a parameter's gradient, 0 without any."""
    values = trace.series(parameter, Role.GRADIENT, "rms")[1]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else 0.0


def _usual_gradients(trace: Trace, known: dict[int, Site], gradients: dict[int, float]) -> dict[int, float]:
    """Return, by an optimizer's site, the median gradient among the parameters of all its groups of that class."""
    by_class: dict[str, list[float]] = {}
    for index, optimizer in known.items():
        by_class.setdefault(optimizer.op, []).append(gradients[index])
    usual = {op: float(np.median(values)) for op, values in by_class.items()}
    return {site.index: usual.get(site.op, 0.0) for site in trace.of_kind(Kind.OPTIMIZER)}


def _never_changes(trace: Trace, parameter: Site) -> bool:
    """Tell whether enough updates were sampled, not the first alone, and each left every element as it was."""
    steps, zeros = trace.series(parameter, Role.UPDATE, "zeros")
    counts = trace.series(parameter, Role.UPDATE, "count")[1]
    return bool(len(steps) > 1 and seen_enough(trace, len(steps)) and (zeros == counts).all())
