"""The door through which a repair reaches a running forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from unstuck.capture.functions import Activation
from unstuck.capture.graph import Replay
from unstuck.trace import Site, Trace


@dataclass(frozen=True)
class Handover:
    """A weight layer's output about to be consumed, at step 0, with all that is needed to change the layer.

    `value` is what the consumer would receive; `layer` the weight layer's site; `weight` and `biases` its live
    parameters; `sole_use` whether no other place uses them; `chain` makes `value` again from the layer's own input.
    """

    layer: Site
    consumer: Site
    value: Tensor
    weight: Tensor
    biases: tuple[Tensor, ...]
    sole_use: bool
    chain: Replay


@dataclass(frozen=True)
class LayerOutput:
    """What a weight layer has just made; `value` and the parameters may be changed in place through `.data`.

    `biases` are those that were seen to be added, in this call or (at an earlier step) after it; `includes_bias` tells
    whether this call has added its bias already. `unit_dim` is the dimension of `value` that holds the
    units. `sole_use` tells whether no other place uses them, as far as known; `chain`, at step 0 alone, makes `value`
    again.
    """

    layer: Site
    step: int
    value: Tensor
    weight: Tensor
    biases: tuple[Tensor, ...]
    includes_bias: bool
    unit_dim: int
    sole_use: bool = True
    chain: Replay | None = None


class Intervention(Protocol):
    """What a repairer may do; `before_…` return the consumer's new input, or None to leave things as they are."""

    @property
    def armed(self) -> bool:
        """Whether it waits for the output of some layer, in whichever pass comes next."""

    def after_layer(self, output: LayerOutput) -> None:
        """Called when a weight layer has run while the repairer is `armed`, before its output is measured."""

    def before_activation(self, trace: Trace, handover: Handover, function: Activation) -> Tensor | None:
        """Called before an activation function runs on a weight layer's output."""

    def before_loss(
        self,
        trace: Trace,
        handover: Handover,
        loss: Callable[[Tensor], Tensor],
        baseline: float | None,
        target: Tensor | None,
    ) -> Tensor | None:
        """Called before a loss of logits or log-probabilities; `loss` makes the same call on other predictions."""

    def after_first_pass(self, network: Any) -> None:
        """Called when the first backward pass has ended, with the session: its trace and live parameters."""

    def after_update(self, network: Any, step: int) -> None:
        """Called when the update of a sampled step has been measured, with the session, before the next forward pass.

        In a loop without optimizer the next forward pass has been made already.
        """
