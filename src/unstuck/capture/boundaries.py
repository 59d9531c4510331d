"""Where a step begins and ends: calls of backward, optimizer steps, and loops that update by hand.

Between sampled steps only these are installed: wrappers around `Tensor.backward` and `torch.autograd.backward`, and the
global optimizer hooks (https://docs.pytorch.org/docs/stable/optim.html). `Tensor.backward` needs a wrapper of its own
because torch shows it to function modes: only outside of it may the mode be put on or taken off.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from unstuck.capture.compiled import Compiler, uncompiled


class Listener(Protocol):
    """What a session hears of the training loop."""

    def backward_begins(self, objectives: tuple[Tensor, ...]) -> None:
        """Backward was called on these tensors."""

    def backward_ended(self) -> None:
        """Backward has returned without an error."""

    def update_begins(self, optimizer: Optimizer) -> None:
        """An optimizer is about to step."""

    def update_ended(self) -> None:
        """An optimizer has stepped."""

    def weights_loaded(self) -> None:
        """`load_state_dict` of a module or an optimizer has run."""


class Boundaries:
    """Patches what tells of a step's beginning and end; `remove` puts everything back."""

    def __init__(self, listener: Listener, compiler: Compiler) -> None:
        self._listener = listener
        self._aside = compiler.aside
        self._handles: list[RemovableHandle] = []
        self._inside: ContextVar[bool] = ContextVar("inside backward", default=False)
        self._patched: list[tuple[Any, str, Callable[..., Any]]] = []

    def install(self) -> None:
        """Install the wrappers and hooks."""
        self._handles = [
            register_optimizer_step_pre_hook(self._before_update),
            register_optimizer_step_post_hook(self._after_update),
        ]
        self._patch(torch.autograd, "backward", self._around_backward)
        self._patch(Tensor, "backward", self._around_backward)
        self._patch(nn.Module, "load_state_dict", self._after_load)
        self._patch(Optimizer, "load_state_dict", self._after_load)

    def remove(self) -> None:
        """Undo `install`, last first; a wrapper that somebody else has wrapped since is left in place, inert."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for owner, name, original in reversed(self._patched):
            if getattr(getattr(owner, name), "__wrapped__", None) is original:
                setattr(owner, name, original)
        self._patched = []

    def _patch(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, wrap(original))
        self._patched.append((owner, name, original))

    @uncompiled
    def _before_update(self, optimizer: Optimizer, *_: Any) -> None:
        self._aside(self._listener.update_begins, optimizer)

    @uncompiled
    def _after_update(self, *_: Any) -> None:
        self._aside(self._listener.update_ended)

    def _around_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            if self._inside.get():
                original(tensors, *args, **kwargs)
                return
            objectives = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
            self._aside(self._listener.backward_begins, objectives)
            token = self._inside.set(True)
            try:
                original(tensors, *args, **kwargs)
            finally:
                self._inside.reset(token)
            self._aside(self._listener.backward_ended)

        return backward

    def _after_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def load_state_dict(*args: Any, **kwargs: Any) -> Any:
            self._listener.weights_loaded()
            return original(*args, **kwargs)

        return load_state_dict
