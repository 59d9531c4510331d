"""N010. After https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.evaluation import NOT_SEEN, evaluations, on, repeated
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Signal, Site, Trace

MAX_ACTIVE = 0  # passes in eval mode with dropout on


class UnconditionalDropout(Rule):
    """Dropout stays on although the network is in eval mode.

    ## What it does
    Looks at passes without gradients after training began, and fires when a dropout, or the dropout of an attention's
    weights, is active in a module that is in eval mode, as is the network as a whole.

    ## Why is this bad
    `F.dropout` is active unless it is told otherwise, and `dropout_p` of an attention always is: `model.eval()` does
    not reach them. The evaluated and the deployed network have units missing at random, so that their results are
    worse than what was trained and change from call to call.

    ## Evidence
    The probability of being dropped, and the number of passes looked at that show it. Dropout is on or off: there is no
    threshold to set.

    ## Stays silent on
    Dropout modules that were put into train mode on purpose (Monte Carlo dropout); several passes over one batch in
    one step, which average over the noise; networks in train mode (N005); code outside modules, which has no mode.

    ## Example
        def forward(self, x):
            return self.out(F.dropout(x, 0.2))  # training=self.training is missing

    ## Fix
    Pass training=self.training to `F.dropout`, and `dropout_p=self.p if self.training else 0.0` to an attention; or
    use `nn.Dropout`.

    ## References
    - torch.nn.functional.dropout, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html
    - torch.nn.functional.scaled_dot_product_attention,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """

    code = "N010"
    name = "unconditional-dropout"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS,)

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an evaluation pass through a norm or dropout."""
        return super().lacking(trace) or (None if evaluations(trace) else NOT_SEEN)

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each dropout by the passes in eval mode."""
        for site in evaluations(trace):
            probabilities = trace.scalars(site, "p")
            active = [(step, p) for step, p in probabilities if p > 0 and _stays_on(trace, site, step)]
            if active:
                yield self._report(site, active)

    def _report(self, site: Site, active: list[tuple[int, float]]) -> Finding:
        (first, p), (last, _) = active[0], active[-1]
        return self.finding(
            site,
            steps=(first, last),
            measured=float(len(active)),
            threshold=float(MAX_ACTIVE),
            unit="evaluation passes",
            message=f"{site.label} drops with probability {p:g} although the network is in eval mode",
            evidence=(Evidence("dropout probability", p),),
        )


def _stays_on(trace: Trace, site: Site, step: int) -> bool:
    modes = on(trace, site, "own_training", step) or on(trace, site, "root_training", step)
    return on(trace, site, "training", step) and not modes and not repeated(trace, site, step)
