"""Parameters: which tensors they are, what they are called, and their values, gradients and updates at a step."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unstuck.capture.graph import Origins
from unstuck.capture.modules import ModuleTracker
from unstuck.capture.site import Locator, SiteRegistry, variable_name
from unstuck.capture.wrappers import local
from unstuck.stats.queue import MAX_SAMPLE, Sample, SummaryQueue
from unstuck.stats.reference import identical_units
from unstuck.trace import Kind, Role, Site, Trace


class Parameters:
    """Knows every parameter that took part in a sampled forward pass or sits in an optimizer."""

    def __init__(self, trace: Trace, sites: SiteRegistry, modules: ModuleTracker, locator: Locator) -> None:
        self._trace = trace
        self._sites = sites
        self._modules = modules
        self._locator = locator
        self._by_id: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._live: dict[int, weakref.ref[Tensor]] = {}
        self._unit_dims: dict[int, int] = {}
        self._use_counts: Counter[int] = Counter()
        self._unused = itertools.count()
        self._optimizers: dict[int, int] = {}  # parameter site -> the optimizer (its id) that updates it
        self._snapshots: dict[int, Sample] = {}
        self._queue = SummaryQueue()
        self._keys: list[tuple[int, Role]] = []  # of what waits in the queue
        self._tickets: list[int] = []
        self.used: set[int] = set()
        self.start = 0  # the step with which training began, or was begun again

    # -- identity --------------------------------------------------------------------------------------------------

    def leaf_of(self, tensor: object, origins: Origins) -> tuple[Tensor | None, bool]:
        """Return (the parameter that `tensor` is or is a view of, whether transposed); (None, False) otherwise."""
        if not isinstance(tensor, Tensor):
            return None, False
        if isinstance(tensor, nn.Parameter) or (tensor.requires_grad and tensor.is_leaf):
            return self._modules.kept(tensor), False
        origin = origins.of(tensor)
        return (origin.leaf, origin.transposed) if origin is not None and origin.leaf is not None else (None, False)

    def use(self, parameter: Tensor, site: Site, slot: str, unit_dim: int) -> None:
        """Note that `site` used `parameter` as its `slot` in this forward pass."""
        own = self._site_of(parameter, site, slot)
        if own.index not in site.parameters:
            site.parameters = (*site.parameters, own.index)
            self._use_counts[own.index] += 1
        self._unit_dims.setdefault(own.index, unit_dim)
        self.used.add(own.index)

    def belongs(self, parameter: Tensor, optimizer: int) -> None:
        """Note which optimizer (its id) updates a parameter, which may be one that no observed call used."""
        known = self._by_id.get(id(parameter))
        if known is None or known[0]() is not parameter or self._optimizers.get(known[1]) != optimizer:
            self._optimizers[self._site_of(parameter, None, "").index] = optimizer

    def all_live(self) -> list[Tensor]:
        """Return all that still exist."""
        return [parameter for reference in self._live.values() if (parameter := reference()) is not None]

    def forget(self, parameter: Tensor) -> None:
        """Watch a parameter no more: the network has lost it."""
        known = self._by_id.get(id(parameter))
        if known is not None and known[0]() is parameter:
            for held in (self._live, self._optimizers, self._snapshots):
                held.pop(known[1], None)

    def _due(self, optimizer: int | None) -> list[tuple[int, Tensor]]:
        """Return (site, parameter) of those to be measured: all but the ones that another optimizer updates."""
        due = []
        for index, reference in self._live.items():
            parameter = reference()
            if parameter is None or not parameter.requires_grad:
                continue
            if optimizer is None or self._optimizers.get(index, optimizer) == optimizer:
                due.append((index, parameter))
        return due

    def _site_of(self, parameter: Tensor, owner: Site | None, slot: str) -> Site:
        known = self._by_id.get(id(parameter))
        if known is not None and known[0]() is parameter:
            site = self._trace.sites[known[1]]
            if site.owner is None and owner is not None:
                site.owner, site.slot, site.location = owner.index, slot, owner.location
            return site
        name = self._modules.parameter_name(parameter)
        name = name or variable_name(self._locator.frame(sys._getframe()), parameter)
        key = ("parameter", owner.index if owner else f"unused {next(self._unused)}", slot, name)
        site = self._sites.get(key) or self._create(key, parameter, owner, slot, name)
        self._by_id[id(parameter)] = (weakref.ref(parameter), site.index)
        self._live[site.index] = weakref.ref(parameter)
        return site

    def _create(self, key: tuple[object, ...], parameter: Tensor, owner: Site | None, slot: str, name: str) -> Site:
        site = self._sites.create(key, Kind.PARAMETER, "parameter", name, owner.location if owner else None)
        site.owner = owner.index if owner else None
        site.slot = slot
        if not self._modules.parameter_name(parameter):
            site.variable = name
        if owner is not None and slot == "weight" and not owner.path:
            owner.variable = name
        site.shape = tuple(parameter.shape)
        site.dtype = str(parameter.dtype).removeprefix("torch.")
        site.requires_grad = parameter.requires_grad
        if owner is not None and self._modules.is_unregistered(parameter):
            self._trace.add_scalar(0, site.index, "unregistered", 1.0)
        return site

    def knows(self, tensor: Tensor) -> bool:
        """Tell whether `tensor` is a known parameter."""
        return self.index_of(tensor) is not None

    def index_of(self, tensor: Tensor, *, current: bool = False) -> int | None:
        """Return the site of a known parameter, or None; also None, if `current`, once another one took its place."""
        known = self._by_id.get(id(tensor))
        if known is None or known[0]() is not tensor or (current and self.live(known[1]) is not tensor):
            return None
        return known[1]

    def live(self, index: int) -> Tensor | None:
        """Return the parameter of a site while it exists."""
        reference = self._live.get(index)
        return reference() if reference is not None else None

    def unit_dim(self, site: int) -> int:
        """Return the dimension of a parameter, by its site, whose entries are the layer's units."""
        return self._unit_dims.get(site, 0)

    def uses(self, parameter: Tensor) -> int:
        """Return how many sites use a parameter (tied weights: more than one)."""
        known = self._by_id.get(id(parameter))
        return self._use_counts[known[1]] if known is not None else 0

    # -- measurements ----------------------------------------------------------------------------------------------

    def measure_gradients(
        self,
        step: int,
        *,
        optimizer: int | None = None,
        scale: float = 1.0,
        given: Mapping[int, Tensor] | None = None,
        with_snapshot: bool = False,
    ) -> None:
        """Record the gradient of each known parameter, divided by `scale`, and whether a used one has none.

        `given` holds gradients, by the parameter's id, that were returned instead of accumulated in `.grad`. With
        `with_snapshot` the numbers are entered by `snapshot`, which follows at once.
        """
        for index, parameter in self._due(optimizer):
            gradient = parameter.grad if given is None else given.get(id(parameter))
            gradient = None if gradient is None else local(gradient)
            if index in self.used:
                self._trace.add_scalar(step, index, "gradient_missing", float(gradient is None))
            if gradient is None or gradient.layout is not torch.strided:
                continue
            if scale == 1.0:
                self._keys.append((index, Role.GRADIENT))
                self._tickets.append(self._queue.borrow(gradient))
            else:
                gradient = unscaled(gradient, scale)
                self._keys.append((index, Role.GRADIENT))
                self._tickets.append(self._queue.add(gradient))
            if step == self.start:
                self._count_identical(index, "identical_gradient_units", gradient)
        if not with_snapshot:
            self._enter(step)

    def snapshot(self, step: int, optimizer: int | None = None) -> None:
        """Record the value of each known parameter before its update and keep a sample to measure the update by."""
        for index, parameter in self._due(optimizer):
            own = local(parameter)
            self._keys.append((index, Role.VALUE))
            self._tickets.append(self._queue.borrow(own))
            self._snapshots[index] = Sample(own)
            if own.numel() > MAX_SAMPLE:
                self._trace.sites[index].update_stride = -(-own.numel() // MAX_SAMPLE)
            if step == self.start:
                self._count_identical(index, "identical_units", own)
        self._enter(step)

    def measure_updates(self, step: int) -> None:
        """Record the update of each parameter since its snapshot."""
        live = ((index, self.live(index), before) for index, before in self._snapshots.items())
        changed = [(index, local(parameter), before) for index, parameter, before in live if parameter is not None]
        self._keys += [(index, Role.UPDATE) for index, _, _ in changed]
        self._tickets += self._queue.differences([(now, before) for _, now, before in changed])
        self._enter(step)

    def _enter(self, step: int) -> None:
        """Have everything that waits summarised, by one call, and recorded."""
        if self._tickets:
            table, rows = self._queue.take(self._tickets)
            self._trace.add_table(step, self._keys, table, rows, replace=True)
            self._keys, self._tickets = [], []

    def forget_snapshots(self) -> None:
        """Let the kept values go: no update can follow any more."""
        self._snapshots.clear()

    def accumulating(self) -> bool:
        """Tell whether any known gradient is neither absent nor zero, so that a backward call would add to it."""
        grads = (parameter.grad for _, parameter in self._due(None) if parameter.grad is not None)
        return any(bool(grad.any()) for grad in grads if grad.layout is torch.strided)

    def trained(self) -> list[tuple[int, Tensor]]:
        """Return the site and the local value of each known parameter that can be trained."""
        return [(index, local(parameter)) for index, parameter in self._due(None)]

    def any_nonfinite_gradient(self) -> bool:
        """Tell whether any known gradient holds NaN or infinity."""
        grads = (local(parameter.grad) for _, parameter in self._due(None) if parameter.grad is not None)
        return any(not bool(grad.isfinite().all()) for grad in grads if grad.layout is torch.strided)

    def changed_since_snapshot(self) -> bool | None:
        """Tell whether any parameter differs from its snapshot or is gone; None when there is none to compare with."""
        if not self._snapshots:
            return None
        for index, before in self._snapshots.items():
            parameter = self.live(index)
            if parameter is None or before.differs(local(parameter)):
                return True
        return False

    def _count_identical(self, index: int, name: str, tensor: Tensor) -> None:
        if tensor.dim() < 2 or tensor.numel() > MAX_SAMPLE:
            return
        unit_dim = self._unit_dims.get(index, 0)
        self._trace.add_scalar(0, index, "units", tensor.shape[unit_dim])
        self._trace.add_scalar(0, index, name, identical_units(tensor, unit_dim))


def unscaled(gradient: Tensor, scale: float) -> Tensor:
    """Return a gradient divided by a loss scale, which in float16 could underflow."""
    wide = torch.promote_types(gradient.dtype, torch.float32)
    return gradient.detach().to(wide) / scale
