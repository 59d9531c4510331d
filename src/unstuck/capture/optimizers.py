"""Optimizers as sites: one a parameter group, with its settings at each sampled step."""

from __future__ import annotations

import sys
import weakref

from torch.optim.optimizer import Optimizer

from unstuck.capture.parameters import Parameters
from unstuck.capture.site import Locator, SiteRegistry, location_of
from unstuck.trace import Kind, Site, Trace

SETTINGS = ("lr", "weight_decay", "eps", "momentum", "maximize")
"""Scalars of an optimizer's site, where its class has them; also `beta1`, `beta2` and `decoupled` (weight decay)."""


class Optimizers:
    """Knows the optimizers that have stepped in sampled steps."""

    def __init__(self, trace: Trace, sites: SiteRegistry, parameters: Parameters, locator: Locator) -> None:
        self._trace = trace
        self._sites = sites
        self._parameters = parameters
        self._locator = locator
        self._known: dict[tuple[int, int], tuple[weakref.ref[Optimizer], Site]] = {}

    def note(self, optimizer: Optimizer, step: int) -> list[Site]:
        """Note what an optimizer that is about to step updates, and how; return its sites, one a parameter group."""
        sites = []
        for number, group in enumerate(optimizer.param_groups):
            for parameter in group["params"]:
                self._parameters.belongs(parameter, id(optimizer))
            site = self._site_of(optimizer, number)
            sites.append(site)
            updated = (self._parameters.index_of(parameter, current=True) for parameter in group["params"])
            site.parameters = tuple(index for index in updated if index is not None)
            for name, value in _settings(optimizer, group).items():
                self._trace.add_scalar(step, site.index, name, value)
        return sites

    def live(self) -> list[Optimizer]:
        """Return those that still exist, each once."""
        found = {id(optimizer): optimizer for known, _ in self._known.values() if (optimizer := known()) is not None}
        return list(found.values())

    def _site_of(self, optimizer: Optimizer, number: int) -> Site:
        known = self._known.get((id(optimizer), number))
        if known is not None and known[0]() is optimizer:
            return known[1]
        op = type(optimizer).__name__
        key = ("optimizer", len(self._known))
        location = location_of(self._locator.frame(sys._getframe()))
        site = self._sites.create(key, Kind.OPTIMIZER, op, "", location, number)
        self._known[id(optimizer), number] = weakref.ref(optimizer), site
        return site


def _settings(optimizer: Optimizer, group: dict[str, object]) -> dict[str, float]:
    found = {}
    for name in SETTINGS:
        value = group.get(name)
        if isinstance(value, int | float):
            found[name] = float(value)
        elif getattr(value, "numel", lambda: 0)() == 1:
            found[name] = float(value)  # type: ignore[arg-type]  # a learning rate held in a tensor
    betas = group.get("betas")
    if isinstance(betas, tuple | list):
        found |= {f"beta{n}": float(beta) for n, beta in enumerate(betas, 1)}
    if "weight_decay" in found:
        found["decoupled"] = float(bool(group.get("decoupled_weight_decay")) or type(optimizer).__name__ == "AdamW")
    return found
