"""Activation checkpointing with `use_reentrant=True`: the pass that counts runs without gradients.

`torch.utils.checkpoint` (https://docs.pytorch.org/docs/stable/checkpoint.html) then makes the forward pass of its
function under `no_grad` within an autograd function, and makes it again, with gradients, during backward. Sites and
their numbers are taken from the first pass, gradients at outputs from the second, whose sites are those of the first
in the same order. With `use_reentrant=False` the first pass is an ordinary one and the second needs no attention.

Operations that a checkpointed function itself runs under `no_grad` cannot be told from the others in the first pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils.checkpoint import CheckpointFunction

from unstuck.capture.recorder import Recorder
from unstuck.trace import Site


class SwitchedMode(TorchFunctionMode):
    """A function mode that can be told to look away."""

    active: bool


class Checkpointed:
    """A checkpointed function: called once in the forward pass, and again for each backward pass."""

    def __init__(self, function: Callable[..., Any], recorder: Recorder, mode: SwitchedMode) -> None:
        self._function = function
        self._recorder = recorder
        self._mode = mode
        self._sites: list[Site] = []

    def __call__(self, *args: Any) -> Any:
        """Run the function, taking numbers or, in backward, only gradients."""
        again = torch.is_grad_enabled()
        if not again and (self._recorder.log is not None or not self._mode.active):
            return self._function(*args)  # part of an outer checkpoint's first pass, or nobody looks
        recorder, mode = self._recorder, self._mode
        before = recorder.log, recorder.replayed, mode.active
        if again:
            recorder.log, recorder.replayed, mode.active = None, iter(self._sites), True
        else:
            recorder.log = self._sites
        try:
            if mode in _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
                return self._function(*args)
            with mode:  # devices run backward in threads of their own, which know nothing of our mode
                return self._function(*args)
        finally:
            recorder.log, recorder.replayed, mode.active = before


def patch_checkpoints(recorder: Recorder, mode: SwitchedMode) -> Callable[[], None]:
    """Watch what reentrant checkpoints run from now on; return what undoes it."""
    original = CheckpointFunction.__dict__["forward"]

    def forward(ctx: Any, run_function: Callable[..., Any], *args: Any) -> Any:
        if any(ctx.needs_input_grad):
            run_function = Checkpointed(run_function, recorder, mode)
        return original.__func__(ctx, run_function, *args)

    CheckpointFunction.forward = staticmethod(forward)  # type: ignore[method-assign]
    return lambda: setattr(CheckpointFunction, "forward", original)
