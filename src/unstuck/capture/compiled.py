"""Programs that use `torch.compile`: sampled steps run eagerly, all others run compiled as if nobody watched.

A compiled graph shows no torch calls to a function mode, so a sampled step runs under the stance "force_eager"
(https://docs.pytorch.org/docs/stable/generated/torch.compiler.set_stance.html). Since steps 0 … 9 are sampled, a
program's first compilation happens at step 10 or later, where it would have happened at step 0.

torch calls our wrappers and hooks from within compiled functions as well, where a backward call or an optimizer step
breaks the graph anyhow. `aside` hides them from the compiler, and `when_outside` puts off what would change the
compiler's guards (modes, global hooks, the stance) until the outermost compiled function has returned.

`torch._dynamo` takes more than a second to import: nothing here does; it is looked up once the program has.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

import torch
from torch import nn
from torch._C._dynamo.eval_frame import set_eval_frame
from torch.optim.optimizer import Optimizer

F = TypeVar("F", bound=Callable[..., Any])

_ours: list[CodeType] = []
_COMPILED_CALLS = ("compile_wrapper", "_fn")  # the frame of a compiled function's call; the second before torch 2.8


def uncompiled(function: F) -> F:
    """Keep the compiler from looking into a function of ours that torch may call within a compiled one."""
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    if function.__code__ not in _ours:
        _ours.append(function.__code__)
    return function


class Compiler:
    """What a session does about the compiler; `remove` leaves it as the program wants it."""

    def __init__(self, guard: Callable[..., Any]) -> None:
        self._guard = guard
        self._eager = False  # whether a sampled step is under way
        self._within = False  # whether the code under way was called from a compiled function
        self._undo: list[Callable[[], None]] = []  # takes away what forces a step to be eager
        self._undo_skips: Callable[[], None] | None = None
        self._skipped = 0
        self._leaving: Callable[[], None] | None = None  # stops waiting for the end of a compiled function
        self._compile: Any = None  # the program's torch.compile while ours is in its place

    # -- life ------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Begin: when the compiler has not been imported yet, its first use must not go unnoticed."""
        if _loaded() is None:
            original = self._compile = torch.compile

            @functools.wraps(original)
            def compile(*args: Any, **kwargs: Any) -> Any:
                compiled = original(*args, **kwargs)
                self.eager(self._eager)
                return compiled

            torch.compile = compile

    def remove(self) -> None:
        """Undo everything."""
        if self._leaving is not None:
            self._leaving()
        self.eager(False)
        self._put_compile_back()
        if self._undo_skips is not None:
            self._undo_skips()
        self._undo_skips = None

    def _put_compile_back(self) -> None:
        if self._compile is not None and getattr(torch.compile, "__wrapped__", None) is self._compile:
            setattr(torch, "compile", self._compile)  # noqa: B010  (mypy knows the overloads of torch.compile)
        self._compile = None

    # -- sampled steps ---------------------------------------------------------------------------------------------

    def eager(self, on: bool) -> None:
        """Run compiled functions eagerly from now on, or no longer; the program's own stance is kept for afterwards."""
        self._eager = on
        dynamo = _loaded()
        if dynamo is None:
            return
        self._put_compile_back()
        self._skip_ours(dynamo)
        if on and not self._undo:
            self._undo = [_force_stance(), _call_without_warning(dynamo.OptimizedModule)]
        elif not on:
            for undo in self._undo:
                undo()
            self._undo = []

    def _skip_ours(self, dynamo: Any) -> None:
        """Have the compiler leave alone our functions and torch's caller of optimizer hooks, which computes nothing."""
        for code in _ours[self._skipped :]:
            dynamo.skip_code(code)
        self._skipped = len(_ours)
        if self._undo_skips is None:
            caller = Optimizer.profile_hook_step(print).__code__
            dynamo.skip_code(caller)
            self._undo_skips = functools.partial(_no_longer_skip, caller)

    @property
    def used(self) -> bool:
        """Whether the program has asked for anything to be compiled."""
        dynamo = _loaded()
        return dynamo is not None and any(callable(backend) for backend in dynamo.cached_backends.values())

    @property
    def within(self) -> bool:
        """Whether code of ours that runs `aside` was called from a compiled function."""
        return self._within

    # -- our code within compiled functions ------------------------------------------------------------------------

    def aside(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function of ours uncompiled, wherever torch called us from."""
        prior = set_eval_frame(None)
        self._within = prior is not None
        try:
            return function(*args)
        finally:
            self._within = False
            set_eval_frame(prior)

    aside = uncompiled(aside)

    def when_outside(self, work: Callable[[], None]) -> None:
        """Do `work` now or, when called from within a compiled function, as soon as the outermost one returns."""
        if not self._within:
            work()
        elif self._leaving is None:
            self._wait(work)

    def _wait(self, work: Callable[[], None]) -> None:
        dynamo = _loaded()
        outermost = _outermost_compiled_call(sys._getframe(), dynamo.__file__)
        original = dynamo._maybe_set_eval_frame

        def set_callback(callback: Any) -> Any:
            prior = original(callback)
            if callback is None and id(sys._getframe(1)) == outermost:
                stop_waiting()
                self._guard(work)
            return prior

        def stop_waiting() -> None:
            dynamo._maybe_set_eval_frame = original
            self._leaving = None

        self._leaving = stop_waiting
        dynamo._maybe_set_eval_frame = set_callback


def _loaded() -> Any:
    """Return `torch._dynamo.eval_frame` when the program has imported the compiler whole, or None."""
    package = sys.modules.get("torch._dynamo")
    if package is None or getattr(package.__spec__, "_initializing", False):
        return None
    return sys.modules.get("torch._dynamo.eval_frame")


def _force_stance() -> Callable[[], None]:
    """Set the stance "force_eager"; a stance the program sets meanwhile counts from the end of the sampled step on."""
    setting = torch.compiler.set_stance("force_eager")
    stance = [setting.prev]
    decorators: Any = sys.modules["torch._dynamo.decorators"]
    original = decorators._set_stance

    def note(wanted: Any) -> Any:
        prior, stance[0] = stance[0], wanted
        return prior

    def undo() -> None:
        decorators._set_stance = original
        original(stance[0])

    note._dynamo_forbidden = True  # type: ignore[attr-defined]
    decorators._set_stance = note
    return undo


def _call_without_warning(compiled_module: Any) -> Callable[[], None]:
    """Take torch's warning about global module hooks, meant for the program's own, out of compiled modules' calls."""
    original = compiled_module.__call__

    @functools.wraps(original)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return nn.Module.__call__(self, *args, **kwargs)

    def undo() -> None:
        compiled_module.__call__ = original

    compiled_module.__call__ = call
    return undo


def _no_longer_skip(code: CodeType) -> None:
    """Let the compiler look into a function again, where this torch can."""
    dynamo = _loaded()
    if hasattr(dynamo, "set_code_exec_strategy"):
        default = dynamo.FrameAction.DEFAULT
        dynamo.set_code_exec_strategy(code, dynamo.FrameExecStrategy(default, default))


def _outermost_compiled_call(frame: FrameType | None, file: str) -> int:
    """Return the identity of the frame that called into compiled code first."""
    found = {}
    while frame is not None:
        if frame.f_code.co_filename == file:
            found[frame.f_code.co_name] = id(frame)
        frame = frame.f_back
    return next((found[name] for name in _COMPILED_CALLS if name in found), 0)
