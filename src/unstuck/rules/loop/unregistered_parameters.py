"""T004. After https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Kind, Location, Role, Signal, Site, Trace

MAX_UNREGISTERED = 0  # parameters; what gets gradients and is known to no module cannot be meant


class UnregisteredParameters(Rule):
    """Layers kept in a plain list or dict: `parameters()` does not know them, and nothing trains them.

    ## What it does
    Looks for parameters that a module uses in its forward pass although `parameters()` of the outermost running module
    leaves them out. It fires when such a parameter gets gradients, is in no optimizer that has stepped, and does not
    change.

    ## Why is this bad
    `parameters()` finds what is assigned to an attribute as a parameter or module, or stands in a `ModuleList`,
    `ModuleDict`, `ParameterList`. A plain list hides its layers from the optimizer, from `to(device)`, `train()` and
    `state_dict()`: they stay random for ever, and are lost when the network is saved.

    ## Evidence
    How many tensors of parameters are left out at this line, and how many elements they have. One tensor is enough, so
    there is no threshold to set.

    ## Stays silent on
    Parameters that an optimizer or the program itself updates; modules in evaluation mode, such as a frozen network
    kept out of sight on purpose; parameters without gradients; loops without an optimizer.

    ## Example
        self.blocks = [nn.Linear(64, 64) for _ in range(4)]

    ## Fix
    `nn.ModuleList([...])`, `nn.ModuleDict({...})`; `nn.ParameterList` or `register_parameter` for bare parameters.

    ## References
    - torch.nn.ModuleList, https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html
    """

    code = "T004"
    name = "unregistered-parameters"
    stage = Stage.GRADIENT
    severity = Severity.ERROR
    needs = (Signal.PARAMETER_GRADIENTS,)
    explains = ("G001", "G002", "G004", "U002", "U003", "U004", "U005", "L013")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an optimizer: without one every parameter is in none."""
        if missing := super().lacking(trace):
            return missing
        return None if trace.of_kind(Kind.OPTIMIZER) else "an update by an optimizer of torch"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield one finding for each line that uses such parameters, at the first layer there."""
        trained = {index for site in trace.of_kind(Kind.OPTIMIZER) for index in site.parameters}
        places: dict[Location | None, list[Site]] = defaultdict(list)
        for site in trace.of_kind(Kind.PARAMETER):
            if trace.scalar(site, "unregistered") and site.index not in trained and _is_left_alone(trace, site):
                places[site.location].append(site)
        for parameters in places.values():
            yield self._report(trace, parameters)

    def _report(self, trace: Trace, parameters: list[Site]) -> Finding:
        first = parameters[0]
        owner = trace.sites[first.owner] if first.owner is not None else first
        steps = [step for site in parameters for step, _ in trace.summaries(site, Role.GRADIENT)]
        counts = [max(s.count for _, s in trace.summaries(site, Role.GRADIENT)) for site in parameters]
        return self.finding(
            owner,
            steps=(min(steps), max(steps)),
            measured=float(len(parameters)),
            threshold=float(MAX_UNREGISTERED),
            unit="parameters",
            message=(
                f"{len(parameters)} parameter{'s' * (len(parameters) > 1)} used here ({first.label}"
                f"{', …' * (len(parameters) > 1)}) get gradients, but parameters() of the network leaves them out "
                "and no optimizer has them"
            ),
            evidence=(Evidence("elements never trained", float(sum(counts))),),
        )


def _is_left_alone(trace: Trace, site: Site) -> bool:
    """Tell whether a parameter gets gradients and never changes."""
    pulled = any(summary.rms > 0 for _, summary in trace.summaries(site, Role.GRADIENT))
    return pulled and not any(summary.rms > 0 for _, summary in trace.summaries(site, Role.UPDATE))
