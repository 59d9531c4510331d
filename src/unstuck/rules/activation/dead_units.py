"""A002. After Lu et al. 2019, https://arxiv.org/abs/1903.06733."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.objective import factors, is_steady
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.units import is_proof, lacks_window, latest_window, silent_at_first
from unstuck.rules.window import MIN_SAMPLED_STEPS
from unstuck.stats.summary import UnitSummary
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_DEAD = 10.0  # % of a site's units; 100 He-initialised ReLU networks on N(0, 1) inputs stayed below 5 %
ERROR_DEAD = 50.0  # % of a site's units; the layer has lost half of its width
WARN_DEAD = 30.0  # % of a site's units; most programs in zoo/ that train well lose less (three 41 to 49), faults 44, 56
MIN_DEAD_UNITS = 3  # units; of 400 default-initialised 8-unit layers on N(0, 1) points, 34 had lost one, none three

# of the weights (about U001's limit), of the pre-activations' first spread (1)
MAX_UPDATE = {"weight": 3e-2, "bias": 1e-2}


class DeadUnits(Rule):
    """Units of an activation function give no response to anything they were shown.

    ## What it does
    Calls a unit dead when it responded to something in steps 0 to 4 and its pre-activation later lay outside the
    responsive interval for every element of every sampled batch in the window: the latest sampled steps, at least four,
    that together hold 1,000 elements of each unit. It fires when at least three units and more than 10 % of a site's
    are dead, but not all of them (A003): for information up to 30 %, which networks that train well lose too; as an
    error above 50 %.

    ## Why is this bad
    A dead unit passes no gradient to its weights, so nothing but a change below it can revive it. The layer is
    narrower than it was built to be, for good.

    ## Evidence
    The number of units and of dead ones, the elements seen of each unit, the window's steps.

    ## Stays silent on
    Units that were silent from the start (I007). Zeros as such: a healthy ReLU gives 50 to 80 %. Sites that have not
    shown 1,000 elements of each unit in four sampled steps; data of fewer than a hundred different rows, which prove
    nothing about others; experts that a router shows a part of each batch; sites whose number of units varies; an
    activation that feeds nothing but the loss; units that came back in the window; functions that respond everywhere,
    such as leaky ReLU with slope 0.1.

    ## Example
        optimizer = torch.optim.SGD(relu_network.parameters(), lr=5.0)  # one step throws units off the data

    ## Fix
    Lower the learning rate of the first steps (warm-up), start biases at zero, or use a function with a slope on
    both sides. Units that are dead already have to be drawn afresh (`revive-dead-units`, optimizer state included).

    ## References
    - Dying ReLU and Initialization, https://arxiv.org/abs/1903.06733
    - Rectifier Nonlinearities Improve Neural Network Acoustic Models,
      https://ai.stanford.edu/~amaas/papers/relu_hybrid_icml2013_final.pdf
    """

    code = "A002"
    name = "dead-units"
    stage = Stage.ACTIVATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.ACTIVATIONS)
    explains = ("A007", "G004", "L013", "U003")
    fixes = ("revive-dead-units",)
    max_dead = Threshold(MAX_DEAD, "% of a site's units")
    min_dead_units = Threshold(float(MIN_DEAD_UNITS), "units")
    warn_dead = Threshold(WARN_DEAD, "% of a site's units, for a warning")
    error_dead = Threshold(ERROR_DEAD, "% of a site's units, for an error")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs one window long enough."""
        return super().lacking(trace) or lacks_window(trace)

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each activation site by its latest window."""
        graph = Graph(trace)
        for site in trace.of_kind(Kind.ACTIVATION):
            window = latest_window(trace, site)
            if window is not None and is_proof(trace, graph, site, window) and not graph.feeds_only_loss(site):
                yield from self._judge(trace, site, *window)

    def _judge(
        self, trace: Trace, site: Site, steps: tuple[int, int], sampled: int, units: UnitSummary
    ) -> Iterator[Finding]:
        dead = int((units.saturated & ~silent_at_first(trace, site, len(units))).sum())
        measured = 100.0 * dead / len(units)
        if dead < self.min_dead_units or measured <= self.max_dead or dead == len(units):
            return
        warn, error = measured > self.warn_dead, measured > self.error_dead
        yield self.finding(
            site,
            steps=steps,
            measured=measured,
            threshold=self.max_dead,
            unit="%",
            message=(
                f"{dead} of the {len(units)} units of {site.label} ({measured:.0f} %) responded to none of the "
                f"{units.count:,} elements of steps {steps[0]} to {steps[1]}; at most {self.max_dead:.0f} % is healthy"
            ),
            evidence=(
                Evidence("dead units", float(dead), "units"),
                Evidence("units", float(len(units)), "units"),
                Evidence("elements of each unit", float(units.count)),
                Evidence("sampled steps", float(sampled), "steps"),
            ),
            severity=Severity.ERROR if error else Severity.WARNING if warn else Severity.INFO,
            fixes=self.fixes if (warn or error) and cause_is_over(trace, site) else (),
        )


def cause_is_over(trace: Trace, site: Site) -> bool:
    """Tell whether units of `site` were alive at first, and nothing is seen that would kill revived ones again.

    That is a large update of the layer before it at one of the latest sampled steps (its rms against that of the
    values, or for a bias against the spread that the pre-activations had at first), or an objective that is no known
    loss alone: a penalty on activity kills for as long as it is there.
    """
    summaries = trace.summaries(site, Role.INPUT)
    producers = trace.producers(site)
    if not summaries or summaries[0][1].units is None or len(producers) != 1 or not is_steady(factors(trace)[1]):
        return False
    if bool(summaries[0][1].units.saturated.all()):
        return False
    for own in trace.parameters_of(producers[0]):
        updates = [update.rms for _, update in trace.summaries(own, Role.UPDATE)][-MIN_SAMPLED_STEPS:]
        scale = summaries[0][1].std if own.slot == "bias" else max(v.rms for _, v in trace.summaries(own, Role.VALUE))
        if not updates or not max(updates) <= MAX_UPDATE.get(own.slot, 0.0) * scale:
            return False
    return True
