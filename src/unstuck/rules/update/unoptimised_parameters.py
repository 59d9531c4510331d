"""U004. After https://docs.pytorch.org/docs/stable/optim.html (an optimizer updates what it was given)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.updates import optimizers
from unstuck.trace import Kind, Role, Signal, Site, Trace

MIN_STEPS = 4  # sampled steps, the latest, without any change; with two, zoo/healthy/mirror_words would be named
MAX_FORGOTTEN = 0  # parameters that get gradients and are in no optimizer


class UnoptimisedParameters(Rule):
    """Parameters get gradients, but no optimizer has them.

    ## What it does
    Looks for parameters of layers that got gradients other than zero at the latest four sampled steps or more, stayed
    the same to the bit, and belong to no optimizer that stepped, while others do. It yields one finding, at the first
    of them in the order of execution. Where weights were loaded it is for information only: training a new head on top
    of a network that is left as it is looks the same.

    ## Why is this bad
    Such parameters keep their initial values for good. Often they were added or replaced after the optimizer was made,
    which then goes on updating tensors that the network no longer uses.

    ## Evidence
    The number of such parameters, of those that an optimizer has, and of sampled steps without a change.

    ## Stays silent on
    Parameters with requires_grad=False; parameters of another network's optimizer (a generator's while the
    discriminator is trained); parameters that something else changes; loops without an optimizer of torch.

    ## Example
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.head = nn.Linear(64, 10)  # the optimizer still has the old head

    ## Fix
    Make the optimizer after the network is complete, or hand new parameters to it by `add_param_group`; where
    parameters are sorted into groups, see that each falls into one. For those that should not learn, set requires_grad
    to False, which also saves computing their gradients.

    ## References
    - torch.optim, https://docs.pytorch.org/docs/stable/optim.html
    - Optimizer.add_param_group,
      https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html
    """

    code = "U004"
    name = "unoptimised-parameters"
    stage = Stage.UPDATE
    severity = Severity.WARNING
    needs = (Signal.PARAMETER_GRADIENTS, Signal.UPDATES)
    explains = ("L013", "U002", "U003", "U005")
    min_steps = Threshold(MIN_STEPS, "sampled steps without a change")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an optimizer."""
        if missing := super().lacking(trace):
            return missing
        return None if optimizers(trace) else "the step of an optimizer of torch"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield one finding for all such parameters, at the first of them."""
        known = optimizers(trace)
        if not any(_still_changes(trace, trace.sites[index]) for index in known):
            return
        parameters = [site for site in trace.of_kind(Kind.PARAMETER) if site.owner is not None and site.requires_grad]
        forgotten = {site.index: _steps_unchanged(trace, site) for site in parameters if site.index not in known}
        found = [trace.sites[index] for index, steps in forgotten.items() if len(steps) >= self.min_steps]
        if len(found) <= MAX_FORGOTTEN:
            return
        first = min(found, key=lambda site: (trace.sites[site.owner or 0].order, site.order))
        steps = forgotten[first.index]
        others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        yield self.finding(
            first,
            steps=(steps[0], steps[-1]),
            measured=float(len(found)),
            threshold=float(MAX_FORGOTTEN),
            unit="parameters",
            message=(
                f"{first.label}{others} gets gradients but is in no optimizer: the same to the bit at the last "
                f"{len(steps)} sampled steps"
            ),
            evidence=(
                Evidence("parameters in optimizers", float(len(known)), "parameters"),
                Evidence("sampled steps without a change", float(len(steps)), "steps"),
            ),
            severity=Severity.INFO if trace.facts.weights_loaded else None,
        )


def _steps_unchanged(trace: Trace, parameter: Site) -> list[int]:
    """Return the latest sampled steps at which a parameter had a gradient and its value stayed the same throughout."""
    gradients = dict(zip(*trace.series(parameter, Role.GRADIENT, "rms"), strict=True))
    changes = dict(zip(*trace.series(parameter, Role.UPDATE, "rms"), strict=True))
    steps, squares = trace.series(parameter, Role.VALUE, "squares")
    totals = trace.series(parameter, Role.VALUE, "total")[1]
    unchanged: list[int] = []
    for step, square, total in zip(steps[::-1], squares[::-1], totals[::-1], strict=True):
        if (square, total) != (squares[-1], totals[-1]) or changes.get(step, 0.0) != 0:
            break
        unchanged.append(int(step))
    return sorted(step for step in unchanged if gradients.get(step, 0.0) > 0)


def _still_changes(trace: Trace, parameter: Site) -> bool:
    """Tell whether a parameter was updated at one of the latest sampled steps."""
    return bool(np.any(trace.series(parameter, Role.UPDATE, "rms")[1][-MIN_STEPS:] > 0))
