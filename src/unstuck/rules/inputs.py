"""Where data enters the network, and which layer makes the predictions that a loss is given."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.trace import Kind, Role, Site, Trace

TAKES_FEATURES = (Kind.WEIGHT_LAYER, Kind.RECURRENT)
BEHIND_A_HEAD = frozenset({Kind.ACTIVATION, Kind.SOFTMAX, Kind.DROPOUT})


def float_inputs(trace: Trace, *more: Kind) -> Iterator[Site]:
    """Yield, in order, weight and recurrent layers (and those of `more` kinds) that take float data and nothing else.

    A layer that at other calls takes what the network made (the state of a recurrence written by hand) is left out.
    """
    for site in trace.of_kind(*TAKES_FEATURES, *more):
        if len(trace.series(site, Role.INPUT, "count")[0]) and not trace.producers(site, direct=False):
            yield site


def heads(trace: Trace, loss: Site) -> list[Site]:
    """Return the weight layers whose outputs are the loss's predictions, as they are or through one function."""
    found = []
    for site in trace.producers(loss):
        behind = trace.producers(site) if site.kind in BEHIND_A_HEAD else [site]
        found += [layer for layer in behind if layer.kind is Kind.WEIGHT_LAYER and layer not in found]
    return found


def is_trained(trace: Trace, layer: Site) -> bool:
    """Tell whether any update has changed a parameter of the layer."""
    return any((trace.series(p, Role.UPDATE, "rms")[1] > 0).any() for p in trace.parameters_of(layer))
