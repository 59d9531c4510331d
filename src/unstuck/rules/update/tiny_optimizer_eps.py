"""U008. After https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html (the division by √v + ε)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.updates import later_ratios, loss_at_ends
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Role, Signal, Site, Trace

DIVIDES_BY_EPS = frozenset(
    {"Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "SparseAdam"}
)
ROOTS = frozenset({"Adam", "AdamW", "NAdam", "RAdam", "RMSprop"})  # that divide by the root mean square of gradients
LEAST = {"float16": 2.0**-25}  # below which a number of that dtype is rounded to zero; bfloat16 has float32's range
USUAL_EPS = 1e-8  # (1) of Adam and RMSprop in torch; never too large by itself
MAX_EPS = 3.0  # times the gradient's rms; there a step is a quarter of what it would be. 1 % of it changes nothing
SLOW_RATIO = 3e-3  # update-to-data ratio (1); Adam's with usual settings is near 1e-2 (own runs, a GRU: 0.008)
MIN_LEFT = 0.5  # of the loss at the beginning (1); where it falls further, a large eps is a recipe that works


class TinyOptimizerEps(Rule):
    """The optimizer's eps guards against no division by zero, or swallows the gradients.

    ## What it does
    Looks at `eps` of optimizers that divide by a running size of the gradient plus eps. It fires when eps is zero, or
    less than a parameter's dtype can hold: then an element which never had a gradient is updated by 0 / 0. It also
    fires when an eps above the usual 1e-8 is more than 3 times the gradients' root mean square (median over weight
    matrices and sampled steps), the updates are below 3e-3 of the weights, and the loss has not fallen by half. It
    points at the call of `optimizer.step()`.

    ## Why is this bad
    Unseen rows of an embedding, inactive units and padded positions have a gradient of exactly zero: without eps their
    update is NaN, which reaches everything with the next forward pass. An eps that outweighs the gradients turns the
    adaptive optimizer into plain SGD with a learning rate of lr / eps.

    ## Evidence
    Eps, the share of gradient elements that are exactly zero, or the gradients' root mean square and the update ratio.

    ## Stays silent on
    The defaults in float32 and bfloat16; a large eps with which the network learns, as in published RMSprop recipes;
    optimizers whose use of eps is not known.

    ## Example
        torch.optim.RMSprop(model.parameters(), lr=1e-3, eps=0.0)
        torch.optim.Adam(model.half().parameters())  # 1e-8 is zero in float16

    ## Fix
    Use eps=1e-8 with float32 parameters; keep a float32 copy of float16 parameters for the optimizer (AMP), or use
    eps=1e-6 or more there.

    ## References
    - torch.optim.Adam, https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html
    - Adam: a method for stochastic optimization, https://arxiv.org/abs/1412.6980
    """

    code = "U008"
    name = "tiny-optimizer-eps"
    stage = Stage.UPDATE
    severity = Severity.WARNING
    needs = (Signal.PARAMETER_GRADIENTS,)
    explains = ("A006", "G005", "L011", "L013", "U002", "U003")
    max_eps = Threshold(MAX_EPS, "times the root mean square of the gradients")
    slow_ratio = Threshold(SLOW_RATIO, "update-to-data ratio")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an optimizer that divides by eps."""
        if missing := super().lacking(trace):
            return missing
        known = any(site.op in DIVIDES_BY_EPS and trace.scalars(site, "eps") for site in trace.of_kind(Kind.OPTIMIZER))
        return None if known else "an optimizer of torch that divides by eps"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each parameter group."""
        for optimizer in trace.of_kind(Kind.OPTIMIZER):
            settings = trace.scalars(optimizer, "eps")
            if optimizer.op not in DIVIDES_BY_EPS or not settings:
                continue
            eps = settings[-1][1]
            members = [trace.sites[index] for index in optimizer.parameters]
            lost = [site for site in members if eps < LEAST.get(site.dtype, 0.0)] if eps > 0 else members
            if lost:
                yield from self._too_small(trace, optimizer, eps, lost)
            elif optimizer.op in ROOTS and eps > USUAL_EPS:
                yield from self._too_large(trace, optimizer, eps)

    def _too_small(self, trace: Trace, optimizer: Site, eps: float, lost: list[Site]) -> Iterator[Finding]:
        gradients = [s for site in lost for _, s in trace.summaries(site, Role.GRADIENT)]
        elements = sum(s.finite for s in gradients)
        if not elements:
            return
        zeros = sum(s.zeros for s in gradients) / elements
        what = "0" if eps == 0 else f"{eps:g}, which is 0 in {lost[0].dtype}"
        yield self.finding(
            optimizer,
            steps=(trace.steps[0], trace.steps[-1]),
            measured=eps,
            threshold=LEAST.get(lost[0].dtype, 0.0),
            unit="1",
            message=(
                f"eps of {optimizer.op} is {what}: elements that never had a gradient are updated by 0 / 0; "
                f"{100 * zeros:.2g} % of the gradients of {len(lost)} parameters were exactly zero"
            ),
            evidence=(Evidence("gradients that are exactly zero", zeros), Evidence("parameters", float(len(lost)))),
            severity=Severity.ERROR if zeros else Severity.WARNING,
        )

    def _too_large(self, trace: Trace, optimizer: Site, eps: float) -> Iterator[Finding]:
        sizes, ratios = [], []
        for weight in [trace.sites[index] for index in optimizer.parameters if len(trace.sites[index].shape) > 1]:
            _, rms = trace.series(weight, Role.GRADIENT, "rms")
            _, moved = later_ratios(trace, weight)
            rms = rms[np.isfinite(rms) & (rms > 0)]
            if seen_enough(trace, len(rms)) and len(moved):
                sizes.append(float(np.median(rms)))
                ratios.append(float(np.median(moved)))
        early, late = loss_at_ends(trace)
        if (
            late < early - MIN_LEFT * abs(early)
            or not sizes
            or eps <= self.max_eps * np.median(sizes)
            or np.median(ratios) >= self.slow_ratio
        ):
            return
        size, ratio = float(np.median(sizes)), float(np.median(ratios))
        yield self.finding(
            optimizer,
            steps=(trace.steps[0], trace.steps[-1]),
            measured=eps / size,
            threshold=self.max_eps,
            unit="times",
            message=(
                f"eps of {optimizer.op} is {eps:g}, {eps / size:.3g} times the root mean square of the gradients "
                f"({size:.2g}), and shrinks the updates to {ratio:.2g} of the weights"
            ),
            evidence=(Evidence("rms of the gradients", size), Evidence("update-to-data ratio", ratio)),
        )
