"""I004. After Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, and He et al. 2015."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.depth import MIN_LAYERS, Chain, chains
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.wording import ratio_of
from unstuck.trace import Signal, Trace

MAX_SHRINKAGE = 30.0  # times; torch's default ReLU layers settle at that of their biases: 7 at 64 units, 29 at 1,024
MAX_SLOPE = 0.05  # decades per layer; a factor of 0.89


class VanishingActivations(Rule):
    """The signal fades from layer to layer at the start.

    ## What it does
    Follows each chain of at least four hidden weight layers from the input to the loss, takes the standard deviation
    of their outputs at the first step, and fits a line through its logarithm over depth. It fires when the line falls
    by more than 0.05 decades per layer and the first is more than 30 times the last.

    ## Why is this bad
    Each layer multiplies the scale by the same factor, so with depth hardly anything of the input is left, and the
    gradient shrinks by the same factors on its way back. The outputs depend on the last biases alone until the
    weights have grown.

    ## Evidence
    The shrinkage over the chain, the slope in decades per layer, the number of layers, the standard deviations at
    both ends.

    ## Stays silent on
    Layers that feed a normalisation layer, and chains that a norm, an attention or a recurrent layer interrupts;
    layers with a residual connection around them; output layers, which may well be small; one layer applied again
    and again; runs that loaded weights. torch's default layers fade as well, down to the scale of their biases: that
    is within the limit.

    ## Example
        for conv in convs:
            x = F.glu(conv(x), dim=1)  # a gate halves the signal, which the weights do not make up for

    ## Fix
    Draw the weights with standard deviation gain / √fan_in, where the gain makes up for what the function after the
    layer takes away (√2 for ReLU), or put a normalisation layer into each block. `rescale-weights` scales each layer
    by what it gives on a batch.

    ## References
    - Understanding the difficulty of training deep feedforward neural networks,
      https://proceedings.mlr.press/v9/glorot10a.html
    - Delving Deep into Rectifiers, https://arxiv.org/abs/1502.01852
    """

    code = "I004"
    name = "vanishing-activations"
    stage = Stage.INIT
    severity = Severity.WARNING
    needs = (Signal.START, Signal.WEIGHT_LAYERS)
    explains = ("L013", "N006", "G001", "G004", "G006", "U002", "U003")
    fixes = ("rescale-weights",)
    max_shrinkage = Threshold(MAX_SHRINKAGE, "times, over a chain")
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
            if -chain.slope > self.max_slope and 1.0 / chain.growth > self.max_shrinkage and first not in reported:
                reported.add(first)
                yield self._report(chain)

    def _report(self, chain: Chain) -> Finding:
        first, last, shrinkage = chain.layers[0], chain.layers[-1], 1.0 / chain.growth
        return self.finding(
            first,
            steps=(0, 0),
            measured=shrinkage,
            threshold=self.max_shrinkage,
            unit="1",
            message=(
                f"the outputs' std shrinks from {chain.stds[0]:.2g} at {first.label} to {chain.stds[-1]:.2g} at "
                f"{last.label}, {ratio_of(shrinkage)}-fold over {len(chain.layers)} weight layers "
                f"({chain.slope:.2f} decades per layer); {self.max_shrinkage:.0f}-fold is the limit"
            ),
            evidence=(
                Evidence("slope", chain.slope, "decades per layer"),
                Evidence("weight layers", float(len(chain.layers))),
                Evidence("std at the first", chain.stds[0]),
                Evidence("std at the last", chain.stds[-1]),
            ),
        )
