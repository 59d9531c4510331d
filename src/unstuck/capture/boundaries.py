"""Where a step begins and ends: calls of backward, optimizer steps, and loops that update by hand.

Between sampled steps only these are installed: wrappers around `Tensor.backward`, `torch.autograd.backward`,
`torch.autograd.grad` and `GradScaler`, and the global optimizer hooks
(https://docs.pytorch.org/docs/stable/optim.html). `Tensor.backward` needs a wrapper of its own because torch shows it
to function modes: only outside of it may the mode be put on or taken off.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from unstuck.capture.compiled import Compiler, uncompiled


class Listener(Protocol):
    """What a session hears of the training loop."""

    def hears(self) -> bool:
        """Whether events that happen now, in this thread, concern the listener."""

    def counts_backward(self, objective: Any) -> bool:
        """Backward was called on this tensor; whether counting it is all there is to do."""

    def counts_backward_end(self) -> bool:
        """Backward has returned without an error; whether counting it is all there is to do."""

    def counts_update(self, optimizer: Optimizer) -> bool:
        """An optimizer is about to step; whether counting it is all there is to do."""

    def counts_update_end(self) -> bool:
        """An optimizer has stepped; whether counting it is all there is to do."""

    def backward_begins(self, objectives: tuple[Tensor, ...]) -> None:
        """Backward was called on these tensors."""

    def backward_ended(self, gradients: dict[int, Tensor] | None = None) -> None:
        """Backward has returned without an error; `gradients`, by the parameter's id, when they were returned."""

    def trains(self, tensor: Tensor) -> bool:
        """Whether a tensor is a known parameter."""

    def loss_scaled(self, scale: float) -> None:
        """AMP has multiplied the loss."""

    def update_skipped(self) -> None:
        """AMP has skipped an optimizer's step."""

    def update_begins(self, optimizer: Optimizer, *, with_closure: bool = False) -> None:
        """An optimizer is about to step; `with_closure`, forward passes within it."""

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
        self._training_places: set[tuple[CodeType, int]] = set()  # of `torch.autograd.grad`
        self._updates = 0  # since the last `GradScaler.step` began
        self._inside = False  # whether the watched thread is within a backward call
        self._patched: list[tuple[Any, str, Callable[..., Any]]] = []

    def install(self) -> None:
        """Install the wrappers and hooks."""
        self._handles = [
            register_optimizer_step_pre_hook(self._before_update),
            register_optimizer_step_post_hook(self._after_update),
        ]
        self._patch(torch.autograd, "backward", self._around_backward)
        self._patch(Tensor, "backward", self._around_backward)
        self._patch(torch.autograd, "grad", self._around_grad)
        self._patch(GradScaler, "scale", self._after_scale)
        self._patch(GradScaler, "step", self._around_scaled_step)
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

    @property
    def inside(self) -> bool:
        """Whether a backward call is under way in the watched thread."""
        return self._inside

    def _patch(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, wrap(original))
        self._patched.append((owner, name, original))

    @uncompiled
    def _before_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._listener.counts_update(optimizer):
            with_closure = len(args) > 1 or bool(kwargs)
            self._aside(lambda: self._listener.update_begins(optimizer, with_closure=with_closure))

    @uncompiled
    def _after_update(self, _optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        self._updates += 1
        if not self._listener.counts_update_end():
            self._aside(self._listener.update_ended)

    def _around_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            if self._inside or not self._begin(tensors):
                original(tensors, *args, **kwargs)
                return
            self._inside = True
            try:
                original(tensors, *args, **kwargs)
            finally:
                self._inside = False
            if not self._listener.counts_backward_end():
                self._aside(self._listener.backward_ended)

        return backward

    @uncompiled
    def _begin(self, objectives: Any) -> bool:
        """Tell the listener of a backward call; False when it is none of the listener's."""
        if not self._listener.counts_backward(objectives):
            if not self._aside(self._listener.hears):
                return False
            objectives = (objectives,) if isinstance(objectives, Tensor) else tuple(objectives)
            self._aside(self._listener.backward_begins, objectives)
        return True

    def _around_grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`torch.autograd.grad` for parameters is a backward pass; for other inputs (a penalty) it is forward work."""

        @uncompiled
        @functools.wraps(original)
        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
            training = not (len(args) > 2 and args[2]) and not kwargs.get("create_graph")
            caller = sys._getframe(1)
            place = (caller.f_code, caller.f_lineno)
            known = any(isinstance(t, Tensor) and self._listener.trains(t) for t in wanted)
            training = training and (known or place in self._training_places)
            if self._inside or not training or not self._begin(outputs):
                return original(outputs, inputs, *args, **kwargs)
            self._training_places.add(place)  # where the leaves are new each step, the place tells
            self._inside = True
            try:
                gradients = original(outputs, inputs, *args, **kwargs)
            finally:
                self._inside = False
            if not self._listener.counts_backward_end():
                given = {id(t): g for t, g in zip(wanted, gradients, strict=False) if isinstance(g, Tensor)}
                self._aside(self._listener.backward_ended, given)
            return gradients

        return grad

    def _after_scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if scaler.is_enabled():
                self._listener.loss_scaled(float(scaler.get_scale()))
            return scaled

        return scale

    def _around_scaled_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def step(scaler: Any, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
            self._updates = 0
            result = original(scaler, optimizer, *args, **kwargs)
            if not self._updates and scaler.is_enabled():
                self._aside(self._listener.update_skipped)
            return result

        return step

    def _after_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @uncompiled
        @functools.wraps(original)
        def load_state_dict(*args: Any, **kwargs: Any) -> Any:
            if _brings_something(args, kwargs):
                self._listener.weights_loaded()
            return original(*args, **kwargs)

        return load_state_dict


def _brings_something(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether a loaded state holds anything: trainers load an optimizer's own state while it is still empty."""
    loaded = args[1] if len(args) > 1 else kwargs.get("state_dict")
    return not (isinstance(loaded, dict) and "param_groups" in loaded and not loaded.get("state"))
