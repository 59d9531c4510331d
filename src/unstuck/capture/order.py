"""In which order a loop clears gradients, calls backward and updates: noted per optimizer while steps are sampled.

Written as scalars, at the site of the optimizer's first parameter group:

- `had_gradients`, `has_gradients`: whether a backward call since its last update left a gradient other than zero in
  its parameters, and whether there is one when it updates (1 or 0);
- `precedes_backward`: whether it updated between a forward pass through its parameters and that pass's backward call.

At the site of a backward call: `accumulates`, whether it added to gradients that an update had used before, with no
backward call since that update which found them cleared.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from unstuck.capture.wrappers import local
from unstuck.trace import Site, Trace


class _Known:
    """What happened to an optimizer's gradients since its last update."""

    def __init__(self, optimizer: Optimizer, site: Site) -> None:
        self.optimizer = weakref.ref(optimizer)
        self.site = site
        self.certain = False  # whether all of it was seen
        self.forget()

    def forget(self) -> None:
        self.left: tuple[Tensor, Tensor, int] | None = None  # a parameter, its gradient before backward, the version
        self.cleared = False  # whether a backward call found all gradients cleared
        self.added: set[int] = set()  # backward sites that added to gradients which were there
        self.ended = 0  # backward calls
        self.had = False  # whether one of them left a gradient other than zero


class StepOrder:
    """Told of the boundaries of each sampled step, in order."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._known: dict[int, _Known] = {}
        self._step = -1
        self._place = -1  # the site of the backward call under way
        self._passed_before = 0  # calls of sites until the last backward call ended
        self._update: tuple[int, Site, int, bool] | None = None  # step, site, calls of sites, whether before backward

    def backward_begins(self, step: int, site: Site, passed: int) -> None:
        """Backward is called at `site` after `passed` calls of sites since watching began."""
        skipped = step > self._step + 1
        self._step, self._place = step, site.index
        if self._update is not None and not skipped:
            at, optimizer, passed_then, early = self._update
            self._trace.add_scalar(at, optimizer.index, "precedes_backward", float(early and passed == passed_then))
        self._update = None
        for known in self._known.values():
            if skipped:  # with one optimizer, all of this step's backward calls follow its last update
                known.forget()
                known.certain = len(self._known) == 1
            known.left = next(((p, g, g._version) for p, g in _gradients(known) if not _is_zero(g)), None)
            known.cleared |= known.left is None

    def backward_ended(self, passed: int) -> None:
        """Gradients are complete."""
        self._passed_before = passed
        for known in self._known.values():
            known.ended += 1
            if known.left is not None:
                parameter, before, version = known.left
                if parameter.grad is not before or before._version != version:
                    known.added.add(self._place)
            known.left = None
            known.had = known.had or any(not _is_zero(g) for _, g in _gradients(known))

    def update_begins(
        self, optimizer: Optimizer, step: int, groups: Sequence[Site], passed: int, passing: Collection[int]
    ) -> None:
        """An optimizer is about to step; `passing` are the sites of the pass that no backward call has ended yet."""
        sites, site = self._trace.sites, groups[0]
        held = {index for group in groups for index in group.parameters}
        early = passed > self._passed_before and any(not held.isdisjoint(sites[i].parameters) for i in passing)
        self._update = step, site, passed, early
        known = self._known.get(id(optimizer))
        if known is None or known.optimizer() is not optimizer:
            known = self._known[id(optimizer)] = _Known(optimizer, site)
        elif known.certain and known.ended:
            has = any(not _is_zero(g) for _, g in _gradients(known))
            self._trace.add_scalar(step, site.index, "had_gradients", float(known.had))
            self._trace.add_scalar(step, site.index, "has_gradients", float(has))
            for place in known.added:
                already = self._trace.scalar(sites[place], "accumulates", step) or 0.0
                self._trace.add_scalar(step, place, "accumulates", max(already, float(not known.cleared)))
        known.forget()
        known.certain = True


def _gradients(known: _Known) -> Iterator[tuple[Tensor, Tensor]]:
    optimizer = known.optimizer()
    for group in optimizer.param_groups if optimizer is not None else ():
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter, parameter.grad


def _is_zero(gradient: Tensor) -> bool:
    """Tell whether a gradient is zero throughout; one in a sparse layout counts as not."""
    own = local(gradient)
    return own.layout is torch.strided and not bool(own.any())
