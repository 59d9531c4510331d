"""G003. After https://docs.pytorch.org/docs/stable/notes/autograd.html."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_MISSING = 0  # parameters that are used, want a gradient and never get one


class MissingGradient(Rule):
    """Parameters take part in the forward pass but never get a gradient.

    ## What it does
    Looks for parameters that require a gradient, were used in the forward pass, and had none after backward at any
    of the sampled steps (four, or every step of a shorter run). It points at the last layer before the place where
    the gradient is cut off and counts the parameters above it; of a parameter that no layer uses, at the last
    element-wise call that something made of it went into. The finding is an error when layers further on do get
    gradients from what this layer made, and a warning when nothing observed used it.

    ## Why is this bad
    Such parameters keep their initial values: the layers are random features for good, while the loss may still fall
    because of the others.

    ## Evidence
    The number of parameters without gradient, of layers they belong to, and of sampled steps. A gradient is there or
    not: there is no threshold to set.

    ## Stays silent on
    Parameters with requires_grad=False or used without recording gradients; parameters that got a gradient at any
    sampled step (networks trained in turn) or were changed by other means (running averages of another network); an
    output that nothing uses while the layers before it are trained, such as an unused head; a whole network whose
    output goes into nothing but the loss, such as a teacher's, or whose every parameter has the shape of one that
    does get gradients, such as a target network's.

    ## Example
        logits = self.head(self.rnn(x)[0].detach())  # the recurrent layer never learns

    ## Fix
    Remove what leaves the graph after the named layer: `.detach()`, `.data`, `.item()`, `torch.tensor(h)`, a round
    trip through numpy, a `torch.no_grad()` block. For a layer that should not learn, set requires_grad to False.

    ## References
    - Autograd mechanics, https://docs.pytorch.org/docs/stable/notes/autograd.html
    - torch.Tensor.detach, https://docs.pytorch.org/docs/stable/generated/torch.Tensor.detach.html
    """

    code = "G003"
    name = "missing-gradient"
    stage = Stage.GRADIENT
    severity = Severity.ERROR
    needs = (Signal.STEPS,)
    explains = ("G004", "L013", "U004", "U005")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a parameter that took part in a forward pass."""
        if missing := super().lacking(trace):
            return missing
        seen = any(trace.scalars(site, "gradient_missing") for site in trace.of_kind(Kind.PARAMETER))
        return None if seen else "a parameter that requires a gradient and was used in a forward pass"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield one finding for each place where gradients are cut off."""
        missing: dict[int, list[Site]] = defaultdict(list)
        for parameter in trace.of_kind(Kind.PARAMETER):
            if _never_got_one(trace, parameter):
                missing[parameter.index if parameter.owner is None else parameter.owner].append(parameter)
        graph = Graph(trace)
        for index in sorted(missing, key=lambda i: trace.sites[i].order):
            if not any(_lies_below(trace, graph, other, index) for other in missing):
                yield from self._judge(trace, graph, index, missing)

    def _judge(self, trace: Trace, graph: Graph, index: int, missing: dict[int, list[Site]]) -> Iterator[Finding]:
        above, below = graph.upstream(index), graph.downstream(index)
        feeds_trained = any(_trained(trace, i) for i in below)
        follows_trained = any(_trained(trace, i) for i in above)
        feeds_loss = any(trace.sites[i].kind is Kind.LOSS for i in below)
        unused_branch = follows_trained and not feeds_loss and not feeds_trained
        fixed_target = feeds_loss and not feeds_trained and not follows_trained
        layers = [i for i in missing if i == index or i in above]
        parameters = [parameter for i in layers for parameter in missing[i]]
        apart = not feeds_trained and not follows_trained
        if unused_branch or fixed_target or (apart and _is_copy(trace, parameters)):
            return
        seen = [step for parameter in parameters for step, _ in trace.scalars(parameter, "gradient_missing")]
        site, sampled = trace.sites[index], len(set(seen))
        which = f"{parameters[0].label} of " if len(parameters) == 1 and site is not parameters[0] else ""
        what = f"{which}{site.label}" if len(layers) == 1 else f"{len(layers)} layers up to {site.label}"
        count = (
            "" if which or site is parameters[0] else f"{len(parameters)} parameter{'s' * (len(parameters) > 1)} of "
        )
        yield self.finding(
            site,
            steps=(min(seen), max(seen)),
            measured=float(len(parameters)),
            threshold=float(MAX_MISSING),
            unit="parameters",
            message=f"{count}{what} took part in {sampled} sampled steps and got a gradient in none of them",
            evidence=(
                Evidence("parameters without gradient", float(len(parameters)), "parameters"),
                Evidence("layers", float(len(layers))),
                Evidence("sampled steps", float(sampled), "steps"),
            ),
            severity=Severity.ERROR if feeds_trained or feeds_loss else Severity.WARNING,
        )


def _lies_below(trace: Trace, graph: Graph, other: int, index: int) -> bool:
    """Tell whether `index` reaches `other`; of two in one loop the later lies below."""
    if other == index or other not in graph.downstream(index):
        return False
    return index not in graph.downstream(other) or trace.sites[other].order > trace.sites[index].order


def _is_copy(trace: Trace, parameters: list[Site]) -> bool:
    """Tell whether each of several parameters has the shape of another one that gets gradients."""
    trained = Counter(p.shape for p in trace.of_kind(Kind.PARAMETER) if trace.summaries(p, Role.GRADIENT))
    return len(parameters) > 1 and Counter(p.shape for p in parameters) <= trained


def _never_got_one(trace: Trace, parameter: Site) -> bool:
    seen = [value for _, value in trace.scalars(parameter, "gradient_missing")]
    if not parameter.requires_grad or not seen or not all(seen) or not seen_enough(trace, len(seen)):
        return False
    changed = any(update.zeros < update.count for _, update in trace.summaries(parameter, Role.UPDATE))
    return not changed and not trace.summaries(parameter, Role.GRADIENT)


def _trained(trace: Trace, index: int) -> bool:
    """Tell whether any parameter of the site ever got a gradient."""
    parameters = trace.parameters_of(trace.sites[index])
    return any(not value for p in parameters for _, value in trace.scalars(p, "gradient_missing"))
