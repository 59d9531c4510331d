"""T001. After https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_SHARE = 0.5  # of the sampled steps; zero_grad in a loop is called at all of them or, when forgotten, at none


class AccumulatingGradients(Rule):
    """Gradients are not cleared between updates: each update follows the sum of all gradients so far.

    ## What it does
    Looks, at each sampled step, at the gradients of an optimizer's parameters when backward begins. It fires when at
    more than half of the steps they still held what the optimizer's last update had used, every backward call since
    then added to that, and none found the gradients cleared.

    ## Why is this bad
    Backward adds to `.grad`. Without `zero_grad` an update is made of the gradients at all earlier weights, most of
    which lie far behind: it acts like a momentum of 1 that never forgets, steps grow with time, and the loss swings
    or diverges.

    ## Evidence
    At how many of the sampled steps, and how much the norm of the largest weight's gradient has grown.

    ## Stays silent on
    Accumulation over several backward calls within one update; gradients cleared anywhere between two updates, to
    zero or to None; gradients that another network's backward call leaves behind in a GAN, as long as they are
    cleared before the owner's update; closures such as L-BFGS's, and updates made by hand.

    ## Example
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()

    ## Fix
    Call `optimizer.zero_grad()` before `loss.backward()`, once for each update.

    ## References
    - Zeroing out gradients in PyTorch,
      https://docs.pytorch.org/tutorials/recipes/recipes/zeroing_out_gradients.html
    - torch.optim.Optimizer.zero_grad,
      https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html
    """

    code = "T001"
    name = "accumulating-gradients"
    stage = Stage.GRADIENT
    severity = Severity.ERROR
    needs = (Signal.STEPS,)  # a loop without an optimizer does not have this fault
    explains = (
        *("A001", "A002", "A003", "A006", "G002", "G005", "G007"),
        *("U001", "U003", "L011", "L012", "L013", "L014"),
    )
    max_share = Threshold(MAX_SHARE, "of the sampled steps")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each place where backward is called."""
        for site in trace.of_kind(Kind.BACKWARD):
            steps = [step for step, value in trace.scalars(site, "accumulates") if value]
            sampled = [step for step, _ in trace.vectors(site, "objectives")]
            judged = max(1, sum(step > 0 for step in sampled))  # nothing can be left over from before step 0
            if not steps or not seen_enough(trace, len(steps)) or len(steps) / judged <= self.max_share:
                continue
            growth = _growth(trace, steps)
            evidence = () if growth is None else (Evidence("growth of the largest weight's gradient", growth, "times"),)
            yield self.finding(
                site,
                steps=(steps[0], steps[-1]),
                measured=100.0 * len(steps) / judged,
                threshold=100.0 * self.max_share,
                unit="%",
                message=(
                    f"at {len(steps)} of {judged} sampled steps after the first, backward added to the gradients "
                    "that the last update had used: nothing clears them in between"
                ),
                evidence=evidence,
                related=tuple(trace.of_kind(Kind.OPTIMIZER)),
            )


def _growth(trace: Trace, steps: list[int]) -> float | None:
    """Return how many times larger the gradient of the largest weight is at the end than at the start."""
    weight: Site | None = max(
        (s for s in trace.of_kind(Kind.PARAMETER) if trace.summaries(s, Role.GRADIENT)),
        key=lambda s: (_elements(s), -s.index),
        default=None,
    )
    if weight is None:
        return None
    norms = [s.norm for step, s in trace.summaries(weight, Role.GRADIENT) if step <= steps[-1] and not s.nonfinite]
    return norms[-1] / norms[0] if len(norms) > 1 and norms[0] > 0 else None


def _elements(site: Site) -> int:
    count = 1
    for length in site.shape:
        count *= length
    return count
