"""What feeds what, over any distance: the questions about a network's shape that several rules ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache

from unstuck.trace import Kind, Site, Trace

OUTPUT_KINDS = frozenset({Kind.LOSS, Kind.SOFTMAX})


class Graph:
    """The sites of a trace and all edges between them, direct or not, `without` those at sites of some kinds."""

    def __init__(self, trace: Trace, without: Collection[Kind] = ()) -> None:
        self._sites = trace.sites
        out = {site.index for site in trace.sites if site.kind in without}
        pairs = ((edge.producer, edge.consumer) for edge in trace.edges)
        self._edges = [pair for pair in pairs if not out.intersection(pair)]
        self._consumers: dict[int, set[int]] = defaultdict(set)
        self._producers: dict[int, set[int]] = defaultdict(set)
        for producer, consumer in self._edges:
            self._consumers[producer].add(consumer)
            self._producers[consumer].add(producer)
        self.downstream = cache(self._downstream)
        self.upstream = cache(self._upstream)

    def _downstream(self, index: int) -> frozenset[int]:
        """Return the indices of all sites that this one's output reaches (itself too when it sits in a loop)."""
        return _reach(self._consumers, index)

    def _upstream(self, index: int) -> frozenset[int]:
        """Return the indices of all sites whose outputs reach this one (itself too when it sits in a loop)."""
        return _reach(self._producers, index)

    def reaches(self, site: Site, *kinds: Kind) -> bool:
        """Tell whether the site's output reaches a site of one of these kinds."""
        return any(self._sites[i].kind in kinds for i in self.downstream(site.index) - {site.index})

    def is_output_layer(self, site: Site) -> bool:
        """Tell whether no weight layer comes after this one."""
        return not self.reaches(site, Kind.WEIGHT_LAYER)

    def bypassed(self, site: Site) -> bool:
        """Tell whether a path leads around the site: a residual connection, or a loop that it is part of."""
        above, below = self.upstream(site.index), self.downstream(site.index)
        if site.index in below:
            return True
        return any(producer in above and consumer in below for producer, consumer in self._edges)

    def feeds_only_loss(self, site: Site) -> bool:
        """Tell whether everything that takes the site's output, near or far, belongs to the loss."""
        below = [self._sites[i].kind for i in self.downstream(site.index)]
        return bool(below) and all(kind in OUTPUT_KINDS for kind in below)


def _reach(neighbours: Mapping[int, Iterable[int]], start: int) -> frozenset[int]:
    seen: set[int] = set()
    frontier = [start]
    while frontier:
        fresh = set(neighbours.get(frontier.pop(), ())) - seen
        seen |= fresh
        frontier.extend(fresh)
    return frozenset(seen)
