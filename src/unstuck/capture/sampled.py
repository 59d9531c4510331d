"""What is patched only while a step is sampled, beside the function mode and the module hooks.

- `torch.autograd.Function.apply`, which torch does not show to function modes.
- `next` of a DataLoader's iterator, to know which batches are one of several.
- `torch.overrides.has_torch_function` without gradients: `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` leave
  their fused path when any function mode is on, and evaluation must not be computed otherwise because we watch.

`composite` lets the mode see into `multi_head_attention_forward`, which as one call would hide its layers.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.checkpoint import CheckpointFunction
from torch.utils.data.dataloader import _BaseDataLoaderIter

from unstuck.capture.call import TorchCall
from unstuck.capture.checkpointing import SwitchedMode, patch_checkpoints
from unstuck.capture.passing import after_custom, after_other
from unstuck.capture.probes.batches import note_loaded
from unstuck.capture.recorder import Recorder

COMPOSITES = frozenset({functional.multi_head_attention_forward})


class SampledPatches:
    """Installed with the function mode at the beginning of a sampled step, removed with it."""

    def __init__(
        self, recorder: Recorder, mode: SwitchedMode, guard: Callable[..., Any], aside: Callable[[bool], None]
    ) -> None:
        self._recorder = recorder
        self._aside = aside
        self._mode = mode
        self._guard = guard
        self._thread = 0
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Install for the calling thread; harmless when installed."""
        if self._undo:
            return
        self._thread = threading.get_ident()
        self._undo.append(patch_checkpoints(self._recorder, self._mode))
        self._patch_apply()
        self._patch_has_torch_function()
        self._patch_loaders()
        for owner in (torch.optim.Optimizer, torch.nn.Module):
            self._patch_zero_grad(owner)
        self._patch_tracer("trace")
        self._patch_tracer("trace_module")

    def remove(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()

    def _patch_tracer(self, name: str) -> None:
        """Step aside while `torch.jit` traces a model: the trace must not contain what we do."""
        original = getattr(torch.jit, name)

        @functools.wraps(original)
        def trace(*args: Any, **kwargs: Any) -> Any:
            self._aside(True)
            try:
                return original(*args, **kwargs)
            finally:
                self._aside(False)

        setattr(torch.jit, name, trace)
        self._undo.append(lambda: setattr(torch.jit, name, original))

    def _patch_apply(self) -> None:
        function = torch.autograd.Function
        original = function.__dict__["apply"]

        @functools.wraps(original.__func__)
        def apply(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
            out = original.__get__(None, cls)(*args, **kwargs)
            seen = self._mode.active and (torch.is_grad_enabled() or self._recorder.log is not None)
            if seen and threading.get_ident() == self._thread and cls is not CheckpointFunction:
                self._guard(self._seen, cls, args, out)
            return out

        setattr(function, "apply", classmethod(apply))  # noqa: B010  (mypy: not a method one may assign to)
        self._undo.append(lambda: setattr(function, "apply", original))

    def _patch_zero_grad(self, owner: type[Any]) -> None:
        """Take the mode away for `zero_grad`: of its many small calls none makes anything to look at."""
        original = owner.zero_grad

        @functools.wraps(original)
        def zero_grad(*args: Any, **kwargs: Any) -> Any:
            modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
            if not modes or modes[-1] is not self._mode:
                return original(*args, **kwargs)
            with torch.overrides._pop_mode_temporarily():
                return original(*args, **kwargs)

        setattr(owner, "zero_grad", zero_grad)  # noqa: B010
        self._undo.append(lambda: setattr(owner, "zero_grad", original))

    def _seen(self, cls: type[Any], args: tuple[Any, ...], out: Any) -> None:
        call = TorchCall(cls.__name__, cls.apply, args, {})
        torchs_own = cls.__module__.partition(".")[0] == "torch"
        (after_other if torchs_own else after_custom)(self._recorder, call, out)

    def _patch_loaders(self) -> None:
        original = _BaseDataLoaderIter.__next__

        @functools.wraps(original)
        def following(iterator: Any) -> Any:
            batch = original(iterator)
            if threading.get_ident() == self._thread:
                self._guard(note_loaded, self._recorder, iterator, batch)
            return batch

        setattr(_BaseDataLoaderIter, "__next__", following)  # noqa: B010
        self._undo.append(lambda: setattr(_BaseDataLoaderIter, "__next__", original))

    def _patch_has_torch_function(self) -> None:
        original = torch.overrides.has_torch_function

        @functools.wraps(original)
        def has_torch_function(relevant: Any) -> bool:
            alone = _get_current_function_mode_stack() == [self._mode]  # type: ignore[no-untyped-call]
            if not alone or torch.is_grad_enabled():
                return bool(original(relevant))
            with torch.overrides._pop_mode_temporarily():
                return bool(original(relevant))

        setattr(torch.overrides, "has_torch_function", has_torch_function)  # noqa: B010
        self._undo.append(lambda: setattr(torch.overrides, "has_torch_function", original))


def look_inside(
    mode: TorchFunctionMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Make a composite call with the mode on, so that the calls within it are seen one by one.

    The composite would hand itself to the mode again; for its duration, and in this thread, it is told that there is
    none (only functions written in Python ask in this way; what it calls are built-in ones).
    """
    original, thread = vars(functional)["has_torch_function"], threading.get_ident()

    def has_torch_function(relevant: Any) -> bool:
        return threading.get_ident() != thread and bool(original(relevant))

    vars(functional)["has_torch_function"] = has_torch_function
    try:
        with mode:
            return func(*args, **kwargs)
    finally:
        vars(functional)["has_torch_function"] = original
