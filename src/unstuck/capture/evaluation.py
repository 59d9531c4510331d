"""Evaluation passes: how norms and dropout are set where gradients are off, between training steps.

Wrappers around the entrances of `torch.no_grad`, `torch.inference_mode` and `torch.set_grad_enabled` count how often
the program comes through each place. A few of these regions are looked at, with a function mode and module hooks of
their own that are gone when the region ends: the first four of a place, then each doubling of their number. Only calls
of batch normalisation, dropout and attention leave something behind, and whether a loss was computed or predictions
were compared; a site of kind EVALUATION stands for a call and holds its scalars, apart from all training numbers.

Regions that torch itself enters, those within an optimizer's step or a backward call, and those of programs that
compile (between samples, where compiled code must not see our mode) are left alone.
"""

from __future__ import annotations

import functools
import math
import sys
import weakref
from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.capture import functions, modes
from unstuck.capture.boundaries import Boundaries
from unstuck.capture.call import TorchCall, op_name, plain_op, transformed
from unstuck.capture.checkpointing import SwitchedMode
from unstuck.capture.compiled import Compiler, uncompiled
from unstuck.capture.graph import tensors_in
from unstuck.capture.loop import TrainingLoop
from unstuck.capture.probes.normalisation import BatchNorm, dropout_of
from unstuck.capture.recorder import Recorder
from unstuck.capture.regions import Region, RunningModules
from unstuck.capture.site import locals_of

FIRST_REGIONS = 4  # of a place that are looked at; then every doubling
MAX_PLACES = 4096
MAX_PASSES = 16  # calls of an outermost module that are looked at in one region
MAX_CALLS = 4000  # torch calls, likewise
CALL_SECONDS = 2e-6  # what looking at a torch call costs, roughly
FREE_SECONDS = 0.05  # that may be spent whatever the budget
BUDGET = 0.005  # of the time since training began
_DECORATED: CodeType = torch.no_grad()(lambda: None).__code__  # of every function decorated by one of torch's contexts
_COMPARISONS = frozenset({"eq", "__eq__"})
_NOTED = frozenset({"batch_norm"}) | functions.DROPOUT_OPS | functions.ATTENTION_OPS | functions.LOSSES | _COMPARISONS

Place = tuple[int, int]
"""Where a region is entered: a code object's identity (its hash is slow) and the instruction."""


class Entries:
    """How often a place was come to, and at which time to look; keeps the code object, so that its identity stands."""

    __slots__ = ("code", "count", "due")

    def __init__(self, code: CodeType, due: float) -> None:
        self.code = code
        self.count = 0
        self.due = due


class EvaluationMode(SwitchedMode):
    """Shows the calls that count to `note`, made without gradients; all others pass."""

    def __init__(self, note: Callable[[TorchCall, Any], None]) -> None:
        super().__init__()
        self.active = False
        self.calls = 0
        self._note = note
        self._ops: dict[Callable[..., Any], str] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make the call, and look at it afterwards."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.calls += 1
        op = self._ops.get(func)
        if op is None:
            name = plain_op(op_name(func))
            op = self._ops[func] = name if name in _NOTED else ""
        if op and self.active and not torch.is_grad_enabled() and not (transformed() or _exported()):
            self._note(TorchCall(op, func, args, kwargs), out)
        return out


class EvaluationPasses:
    """Notices regions without gradients and looks at a few of them; `remove` undoes everything.

    `open` says whether the next one may be looked at.
    """

    def __init__(
        self,
        loop: TrainingLoop,
        recorder: Recorder,
        boundaries: Boundaries,
        compiler: Compiler,
        guard: Callable[..., Any],
    ) -> None:
        self.open = False
        self._loop = loop
        self._recorder = recorder
        self._boundaries = boundaries
        self._compiler = compiler
        self._guard = guard
        self._mode = EvaluationMode(functools.partial(guard, self._note))
        self._modules = RunningModules(self._enters)
        self._places: dict[Place, Entries] = {}
        self._context: object = None  # of the region that is being looked at
        self._region: Region | None = None
        self._inputs: dict[tuple[int, int], weakref.ref[Tensor]] = {}  # what modules were called on, in this step
        self._inputs_of = -1
        self._spent = 0.0
        self._patched: list[tuple[Any, str, Any]] = []
        self._asks: Callable[[Any], bool] | None = None  # torch's `has_torch_function` while ours is in its place

    def install(self) -> None:
        """Wrap the entrances and exits."""
        for owner in (torch.no_grad, torch.inference_mode, torch.set_grad_enabled):
            self._patch(owner, "__enter__", self._around_enter)
            self._patch(owner, "__exit__", self._around_exit)
        self.open = True

    def remove(self) -> None:
        """Undo everything; a wrapper that somebody else has wrapped since is left in place, inert."""
        self._close()
        self.open = False
        for owner, name, original in reversed(self._patched):
            if getattr(getattr(owner, name), "__wrapped__", None) is original:
                setattr(owner, name, original)
        self._patched = []
        self._places.clear()
        self._inputs.clear()

    def forget(self) -> None:
        """Look at nothing any more and undo nothing."""
        self.open = self._mode.active = False
        self._context = None

    def _patch(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        original = owner.__dict__[name]
        setattr(owner, name, wrap(original))
        self._patched.append((owner, name, original))

    def _around_enter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        loop = self._loop

        @uncompiled
        @functools.wraps(original)
        def enter(context: Any) -> Any:
            result = original(context)
            if self.open and loop._stepping is None:
                self._entered(context, sys._getframe(1))
            return result

        return enter

    def _around_exit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def leave(context: Any, *exception: Any) -> Any:
            if self._context is context:
                self.end()
            return original(context, *exception)

        return leave

    # -- which regions ---------------------------------------------------------------------------------------------

    @uncompiled
    def _entered(self, context: object, frame: FrameType) -> None:
        caller = frame.f_back if frame.f_code is _DECORATED else frame
        if caller is None:
            return
        code = caller.f_code
        place = (id(code), caller.f_lasti)
        entry = self._places.get(place)
        if entry is None:
            entry = self._learn(place, code, frame)
        entry.count += 1
        if entry.count >= entry.due and get_ident() == self._loop._thread:
            self._consider(context, entry)

    @uncompiled
    def _learn(self, place: Place, caller: CodeType, frame: FrameType) -> Entries:
        """Begin to count a place: the user's, or one of torch's, which is never looked at."""
        if len(self._places) >= MAX_PLACES:
            self._places.clear()
        code: Any = frame.f_code
        if code is _DECORATED:
            code = getattr(locals_of(frame).get("func"), "__code__", code)
        internal = self._recorder.locator.is_internal(code)
        entry = self._places[place] = Entries(caller, math.inf if internal else 1)
        return entry

    @uncompiled
    def _consider(self, context: object, entry: Entries) -> None:
        loop = self._loop
        begun = loop.trace.facts.backward_calls and loop._since is not None
        if not begun or self._boundaries.inside or torch.is_grad_enabled():
            return
        if self._spent > FREE_SECONDS + BUDGET * (perf_counter() - (loop._since or 0.0)):
            return
        self._compiler.aside(self._guard, self._begin, context, entry)

    # -- one region ------------------------------------------------------------------------------------------------

    def _begin(self, context: object, entry: Entries) -> None:
        if self._compiler.within or (self._compiler.used and not self._loop._sampled):
            return
        entry.due = entry.count + 1 if entry.count < FIRST_REGIONS else 2 * entry.count
        step = self._loop.steps
        if step != self._inputs_of:
            self._inputs_of = step
            self._inputs.clear()
        self.open = False
        self._context = context
        self._region = Region(self._recorder, self._modules, step, entry.count)
        self._mode.active, self._mode.calls = True, 0
        self._modules.install()
        modes.put_below(self._mode)
        self._patch_has_torch_function()

    @uncompiled
    def end(self) -> None:
        """Stop looking at the region under way, if any, and write down what was seen."""
        if self._context is not None:
            self._compiler.aside(self._guard, self._finish)

    def _finish(self) -> None:
        region = self._region
        self._close()
        self._spent += self._mode.calls * CALL_SECONDS
        self.open = True
        if region is not None:
            region.write()

    def _close(self) -> None:
        self._context = self._region = None
        self._mode.active = False
        self._modules.remove()
        modes.take_away(self._mode)
        if self._asks is not None:
            setattr(torch.overrides, "has_torch_function", self._asks)  # noqa: B010
            self._asks = None

    def _patch_has_torch_function(self) -> None:
        """Let modules choose the path they would choose without our modes; see `sampled.py`."""
        original = self._asks = torch.overrides.has_torch_function

        @functools.wraps(original)
        def has_torch_function(relevant: Any) -> bool:
            on = modes.stack()
            if torch.is_grad_enabled() or not on or not all(isinstance(mode, SwitchedMode) for mode in on):
                return bool(original(relevant))
            modes.replace([])
            try:
                return bool(original(relevant))
            finally:
                modes.replace(on)

        setattr(torch.overrides, "has_torch_function", has_torch_function)  # noqa: B010

    def _enters(self, module: nn.Module, args: Any) -> None:
        """An outermost module is called: count the pass, and whether it has been called on this very tensor before."""
        region = self._region
        if region is None or torch.is_grad_enabled():
            return
        self._guard(self._count_pass, region, module, args)
        if region.passes > MAX_PASSES or self._mode.calls > MAX_CALLS:
            self._mode.active = False
            self._modules.remove()
            modes.take_away(self._mode)

    def _count_pass(self, region: Region, module: nn.Module, args: Any) -> None:
        region.passes += 1
        given = next(tensors_in(args), None)
        if given is None:
            return
        key = (id(module), id(given))
        known = self._inputs.get(key)
        if known is not None and known() is given:
            region.repeats += 1
        self._inputs[key] = weakref.ref(given)

    def _note(self, call: TorchCall, out: Any) -> None:
        region = self._region
        if region is None:
            return
        if self._mode.calls > MAX_CALLS:
            self._mode.active = False
        elif call.op in functions.LOSSES:
            region.losses += isinstance(out, Tensor) and out.dim() == 0
        elif call.op in _COMPARISONS:
            region.comparisons += isinstance(call.arg(1, "other"), Tensor)
        elif call.op == "batch_norm":
            norm = BatchNorm.of(call)
            if norm is not None:
                region.note_batch_norm(norm)
        elif (dropout := dropout_of(call)) is not None:
            region.note_dropout(call.op, *dropout)


def _exported() -> bool:
    """Whether a dispatch mode is on, as in `torch.export`: what it hands out may hold no numbers."""
    return bool(torch._C._len_torch_dispatch_stack() > 0)
