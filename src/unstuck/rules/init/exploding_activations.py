"""I003. After He et al. 2015, section 2.2, https://arxiv.org/abs/1502.01852."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.depth import MIN_LAYERS, Chain, chains
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.wording import ratio_of
from unstuck.trace import Signal, Trace

MAX_GROWTH = 10.0  # times, from the first hidden layer to the last; drawn for its function, a layer keeps the scale
MAX_SLOPE = 0.05  # decades per layer; a factor of 1.12


class ExplodingActivations(Rule):
    """The signal grows from layer to layer at the start.

    ## What it does
    Follows each chain of at least four hidden weight layers from the input to the loss, takes the standard deviation
    of their outputs at the first step, and fits a line through its logarithm over depth. It fires when the line rises
    by more than 0.05 decades per layer and the last is more than 10 times the first.

    ## Why is this bad
    Each layer multiplies the scale by the same factor, so the outputs, the loss and its gradient grow exponentially
    with depth. The first updates are far too large for some layers, or the loss is infinite from the start.

    ## Evidence
    The growth over the chain, the slope in decades per layer, the number of layers, the standard deviations at both
    ends.

    ## Stays silent on
    Layers that feed a normalisation layer, and chains that a norm, an attention or a recurrent layer interrupts;
    layers with a residual connection around them (I006); output layers; one layer applied again and again; runs that
    loaded weights; the scale as such, of the data (D001) or of one layer (I002).

    ## Example
        h = adjacency @ h  # the sum over ten neighbours, four times in a row, where the mean would keep the scale

    ## Fix
    Draw the weights with standard deviation gain / √fan_in, divide sums by the number of their terms, or put a
    normalisation layer into each block. `rescale-weights` scales each layer by what it gives on a batch.

    ## References
    - Delving Deep into Rectifiers, https://arxiv.org/abs/1502.01852
    - All you need is a good init, https://arxiv.org/abs/1511.06422
    """

    code = "I003"
    name = "exploding-activations"
    stage = Stage.INIT
    severity = Severity.WARNING
    needs = (Signal.START, Signal.WEIGHT_LAYERS)
    explains = ("L001", "L011", "L012", "L013", "L014", "N006", "A001", "A002", "A006", "G002", "U001", "U003")
    fixes = ("rescale-weights",)
    max_growth = Threshold(MAX_GROWTH, "times, over a chain")
    max_slope = Threshold(MAX_SLOPE, "decades per layer")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a chain long enough."""
        if missing := super().lacking(trace):
            return missing
        return None if any(chains(trace)) else f"{MIN_LAYERS} hidden weight layers in a row"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each chain at step 0; chains that begin at the same layer count once."""
        if trace.facts.weights_loaded:
            return
        reported: set[int] = set()
        for chain in chains(trace):
            first = chain.layers[0].index
            if chain.slope > self.max_slope and chain.growth > self.max_growth and first not in reported:
                reported.add(first)
                yield self._report(chain)

    def _report(self, chain: Chain) -> Finding:
        first, last = chain.layers[0], chain.layers[-1]
        return self.finding(
            first,
            steps=(0, 0),
            measured=chain.growth,
            threshold=self.max_growth,
            unit="1",
            message=(
                f"the outputs' std grows from {chain.stds[0]:.2g} at {first.label} to {chain.stds[-1]:.2g} at "
                f"{last.label}, {ratio_of(chain.growth)}-fold over {len(chain.layers)} weight layers "
                f"({chain.slope:.2f} decades per layer); {self.max_growth:.0f}-fold is the limit"
            ),
            evidence=(
                Evidence("slope", chain.slope, "decades per layer"),
                Evidence("weight layers", float(len(chain.layers))),
                Evidence("std at the first", chain.stds[0]),
                Evidence("std at the last", chain.stds[-1]),
            ),
        )
