"""Loops over a `DataLoader` that can give them nothing: a loader without batches, or an iterator at its end.

Both are seen when the loop asks for its iterator, once a loop; nothing is done for each batch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter, _DatasetKind

from unstuck.capture.site import Locator, SiteRegistry, location_of
from unstuck.trace import Kind, Location, Trace


class Loaders:
    """Patched while a session runs; `hears` tells whether a loop concerns it, `step` which step is under way.

    At the site of each loop that got nothing: the scalar `empty` (1), by step, and `filled` (1) at the steps at which
    the same loop had got batches before.
    """

    def __init__(
        self,
        trace: Trace,
        sites: SiteRegistry,
        locator: Locator,
        guard: Callable[..., Any],
        hears: Callable[[], bool],
        step: Callable[[], int],
    ) -> None:
        self._trace = trace
        self._sites = sites
        self._locator = locator
        self._guard = guard
        self._hears = hears
        self._step = step
        self._filled: dict[Location, int] = {}  # the last step at which a loop there got batches
        self._patched: list[tuple[type[Any], Callable[..., Any]]] = []

    def install(self) -> None:
        """Patch what a `for` statement calls."""
        for owner, is_empty in ((DataLoader, _has_none), (_BaseDataLoaderIter, _is_exhausted)):
            self._patch(owner, is_empty)

    def remove(self) -> None:
        """Put everything back; a wrapper that somebody else has wrapped since stays, inert."""
        while self._patched:
            owner, original = self._patched.pop()
            if getattr(owner.__iter__, "__wrapped__", None) is original:
                owner.__iter__ = original

    def _patch(self, owner: type[Any], is_empty: Callable[[Any], bool]) -> None:
        original = owner.__iter__

        @functools.wraps(original)
        def iterator(loader: Any) -> Iterator[Any]:
            if self._patched and self._hears():
                self._guard(self._note, loader, is_empty)
            made: Iterator[Any] = original(loader)
            return made

        owner.__iter__ = iterator
        self._patched.append((owner, original))

    def _note(self, loader: Any, is_empty: Callable[[Any], bool]) -> None:
        location = location_of(self._locator.frame(sys._getframe()))
        if location is None:
            return
        if not is_empty(loader):
            self._filled[location] = self._step()
            return
        key = ("loader", location)
        site = self._sites.get(key) or self._sites.create(key, Kind.LOADER, "for loop", "", location)
        self._trace.add_scalar(self._step(), site.index, "empty", 1.0)
        if location in self._filled:
            self._trace.add_scalar(self._filled[location], site.index, "filled", 1.0)


def _has_none(loader: Any) -> bool:
    """Tell whether a loader has no batches, as far as can be told without reading any."""
    return bool(loader._dataset_kind == _DatasetKind.Map and _length(loader._index_sampler) == 0)


def _is_exhausted(iterator: Any) -> bool:
    """Tell whether an iterator of a loader has given all its batches."""
    if iterator._dataset_kind != _DatasetKind.Map:
        return False
    length = _length(iterator._index_sampler)
    return length is not None and iterator._num_yielded >= length


def _length(sampler: Any) -> int | None:
    try:
        return len(sampler)
    except (TypeError, NotImplementedError, AttributeError):
        return None
