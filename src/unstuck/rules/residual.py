"""Residual streams: the additions that a network's blocks make to one tensor, in order; for I006."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unstuck.rules.graph import Graph
from unstuck.trace import Kind, Site, Trace


@dataclass(frozen=True)
class Block:
    """One addition: the sites that made the stream and the branch, and the standard deviation of their sum."""

    site: Site
    stream: frozenset[int]
    branch: frozenset[int]
    std: float

    @property
    def after(self) -> frozenset[int]:
        """The sites that made the sum."""
        return self.stream | self.branch


def streams(trace: Trace) -> Iterator[list[Block]]:
    """Yield the blocks of each stream at step 0: nothing but additions and scaling stands between one and the next.

    Blocks whose branch ends in a layer that an earlier block has used as well (recurrence over time) are left out.
    """
    graph = Graph(trace)
    found: list[list[Block]] = []
    for site in trace.of_kind(Kind.ADDITION):
        block = _block(trace, graph, site)
        if block is None:
            continue
        known = next((blocks for blocks in reversed(found) if blocks[-1].after <= block.stream), None)
        if known is None:
            found.append([block])
        elif not _ends(trace, block) & {p for earlier in known for p in _ends(trace, earlier)}:
            known.append(block)
    yield from found


def _block(trace: Trace, graph: Graph, site: Site) -> Block | None:
    """Return which operand of an addition is the stream: the one that the other is computed from."""
    std = trace.scalar(site, "std")
    operands = [
        frozenset(int(index) for step, values in trace.vectors(site, name) if step == 0 for index in values)
        for name in ("first_from", "second_from")
    ]
    if std is None or not all(operands):
        return None
    for stream, branch in (operands, operands[::-1]):
        own = branch - stream
        back = any(graph.upstream(index) & own for index in stream - branch)
        if own and not back and all(graph.upstream(index) & stream for index in own):
            return Block(site, stream, own, std)
    return None


def _ends(trace: Trace, block: Block) -> set[int]:
    """Return the parameters of the last weight layers of a block's branch."""
    layers = [trace.sites[index] for index in block.branch]
    seen: set[int] = set()
    parameters: set[int] = set()
    while layers:
        layer = layers.pop()
        if layer.index in seen or layer.index in block.stream:
            continue
        seen.add(layer.index)
        if layer.kind in (Kind.WEIGHT_LAYER, Kind.RECURRENT):
            parameters.update(layer.parameters)
        else:
            layers.extend(trace.producers(layer, direct=False))
    return parameters
