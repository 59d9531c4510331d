"""One region without gradients that is looked at: which module runs, and what its norms and dropout are given."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from unstuck.capture.probes.normalisation import BatchNorm, distance
from unstuck.capture.recorder import Recorder
from unstuck.capture.site import location_of
from unstuck.capture.wrappers import own_class, plain_modules
from unstuck.trace import Kind, Site


class RunningModules:
    """The modules that are running, outermost first; `enters` is told of each outermost call."""

    def __init__(self, enters: Callable[[nn.Module, Any], None]) -> None:
        self.stack: list[nn.Module] = []
        self._enters = enters
        self._handles: list[RemovableHandle] = []
        self._thread = 0

    def install(self) -> None:
        """Register the global hooks."""
        self._thread = threading.get_ident()
        self._handles = [
            register_module_forward_pre_hook(self._begins),
            register_module_forward_hook(self._ends, always_call=True),
        ]

    def remove(self) -> None:
        """Remove the hooks; harmless when there are none."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.stack = []

    def _begins(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() != self._thread or not torch._C._is_torch_function_enabled():
            return  # another thread's call, or one that we make ourselves
        if not self.stack:
            self._enters(module, args)
        if self._handles:
            self.stack.append(module)

    def _ends(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        if self.stack and threading.get_ident() == self._thread and torch._C._is_torch_function_enabled():
            self.stack.pop()


@dataclass
class Note:
    """What was seen of one norm or dropout in a region: its scalars, and the moments of its batches taken together."""

    numbers: dict[str, float] = field(default_factory=dict)
    norm: BatchNorm | None = None
    elements: float = 0.0
    total: Tensor | None = None
    squares: Tensor | None = None

    def add_batch(self, norm: BatchNorm) -> None:
        """Add a batch that was normalised by running statistics."""
        mean, var = norm.moments()
        n = norm.x.numel() / norm.x.shape[1]
        total, squares = n * mean.double(), n * (var.double() + mean.double().square())
        self.norm = norm
        self.elements += n
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares

    def finish(self) -> None:
        """Compare the batches with the running statistics."""
        norm = self.norm
        if norm is None or self.total is None or self.squares is None:
            return
        mean = self.total / self.elements
        var = (self.squares / self.elements - mean.square()).clamp(min=0.0)
        running = norm.running_before(mean.float(), var.float())
        if running is None:
            return
        self.numbers |= {**distance(mean.float(), var.float(), running, norm.eps), "elements": self.elements}
        initial = bool((running[0] == 0).all()) and bool((running[1] == 1).all())
        self.numbers["initial_statistics"] = float(initial)


class Region:
    """What a region has shown so far; `write` enters it into the trace.

    Scalars of each site: `training` (the call's argument), `own_training` and `root_training` (the mode of the module
    that made the call and of the outermost one), `p` of dropout, `losses` and `comparisons` made in the region,
    `passes` of an outermost module, `repeats` of them on a tensor seen before in the same step, `entered` (how often
    the place of the region was come to); of a norm by running statistics also what `distance` tells of all its batches,
    `elements` (values a unit) and `initial_statistics`.
    """

    def __init__(self, recorder: Recorder, modules: RunningModules, step: int, entered: int) -> None:
        self.passes = 0
        self.repeats = 0
        self.losses = 0
        self.comparisons = 0
        self._recorder = recorder
        self._modules = modules
        self._step = step
        self._entered = entered
        self._notes: dict[int, Note] = {}

    def note_batch_norm(self, norm: BatchNorm) -> None:
        """Note a call of batch normalisation."""
        note = self._note("batch_norm", norm.training)
        if not norm.training and norm.running_mean is not None and norm.running_var is not None:
            note.add_batch(norm)

    def note_dropout(self, op: str, p: float, training: bool) -> None:
        """Note a call of dropout, or of an attention with dropout."""
        self._note(op, training).numbers["p"] = p

    def _note(self, op: str, training: bool) -> Note:
        stack = self._modules.stack
        known = [(module, path) for module in stack if (path := self._path(module)) is not None]
        own, path = known[-1] if known else (None, "")
        note = self._notes.setdefault(self._site(op, path, own).index, Note())
        note.numbers["training"] = float(training)
        note.numbers["own_training"] = float(training if own is None else own.training)
        note.numbers["root_training"] = float(training if own is None else known[0][0].training)
        return note

    def _path(self, module: nn.Module) -> str | None:
        """Return a module's path; None for one made on the spot, which has no place in the network."""
        path = self._recorder.modules.path_of(module)
        if path is not None:
            return path
        root = self._modules.stack[0]
        name = self._recorder.modules.name_for(root)
        below = next((inner for _, inner, held in plain_modules(root) if held is module), None)
        return None if below is None else f"{name}.{below}" if below else name

    def _site(self, op: str, path: str, module: nn.Module | None) -> Site:
        recorder = self._recorder
        location = location_of(recorder.locator.frame(sys._getframe()))
        key = ("evaluation", path, op, location)
        kind = own_class(module).__name__ if module is not None else ""
        known = recorder.sites.get(key)
        return known or recorder.sites.create(key, Kind.EVALUATION, op, path, location, module=kind)

    def write(self) -> None:
        """Enter what was seen into the trace, under the step that comes next."""
        about = {
            "losses": self.losses,
            "comparisons": self.comparisons,
            "passes": self.passes,
            "repeats": self.repeats,
            "entered": self._entered,
        }
        for index, note in self._notes.items():
            note.finish()
            for name, value in {**note.numbers, **about}.items():
                if math.isfinite(value):
                    self._recorder.trace.add_scalar(self._step, index, name, float(value))
