"""All that a training step may change, kept so that it can be put back bit for bit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim.optimizer import Optimizer

PLAIN = (int, float, bool, str, bytes, type(None), torch.Size, torch.dtype, torch.device)
"""Attributes of modules that are put back as well: a counter of calls, say."""


class Generators:
    """The states of the random number generators of Python, NumPy and torch (CPU and CUDA)."""

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]

    def restore(self) -> None:
        """Set the generators back; may be called again."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)


class Snapshot:
    """The state of modules, of the optimizers of their parameters, and of the random number generators.

    Of modules: which submodules, parameters and buffers they hold under which name, those tensors' values, gradients
    and `requires_grad`, the mode, and plain attributes. `restore` puts all of it back in place, so that references to
    the tensors (an optimizer's, a closure's) stay valid; it may be called again. Values are copied, on their device;
    `tensors` are further ones to keep.
    Raises ValueError for parameters that are still lazy.
    """

    def __init__(
        self, modules: Sequence[nn.Module], optimizers: Sequence[Optimizer] = (), tensors: Sequence[Tensor] = ()
    ) -> None:
        self._modules = [_Module(module) for module in _each(modules)]
        held = [*tensors, *(tensor for module in self._modules for tensor in module.tensors())]
        held += [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        self._tensors = [_Tensor(tensor) for tensor in {id(tensor): tensor for tensor in held}.values()]
        self._optimizers = [_Optimizer(optimizer) for optimizer in optimizers]
        self._generators = Generators()

    def restore(self, *, parameter_values: bool = True) -> None:
        """Put everything back; without `parameter_values`, all but the values of the parameters."""
        with torch.no_grad():
            for module in self._modules:
                module.restore()
            for tensor in self._tensors:
                if parameter_values or not tensor.is_parameter:
                    tensor.restore_value()
                tensor.restore_gradient()
            for optimizer in self._optimizers:
                optimizer.restore()
        self._generators.restore()

    def restore_values(self) -> None:
        """Put the values of parameters and buffers back alone, while a script trains."""
        with torch.no_grad():
            for tensor in self._tensors:
                tensor.restore_value()


class _Module:
    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._parameters, self._buffers, self._children = (
            dict(held) for held in (module._parameters, module._buffers, module._modules)
        )
        self._plain = {name: value for name, value in vars(module).items() if isinstance(value, PLAIN)}
        self._tensors = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}

    def tensors(self) -> list[Tensor]:
        held: list[Any] = [*self._parameters.values(), *self._buffers.values(), *self._tensors.values()]
        return [tensor for tensor in held if isinstance(tensor, Tensor)]

    def restore(self) -> None:
        own = vars(self._module)
        kept_of = {"_parameters": self._parameters, "_buffers": self._buffers, "_modules": self._children}
        for held, kept in kept_of.items():
            if [(name, id(value)) for name, value in own[held].items()] != [(n, id(v)) for n, v in kept.items()]:
                own[held].clear()
                own[held].update(kept)
        for name in [name for name, value in own.items() if isinstance(value, (*PLAIN, Tensor))]:
            if name not in self._plain and name not in self._tensors:
                del own[name]
        own.update(self._plain)
        own.update(self._tensors)


class _Tensor:
    def __init__(self, tensor: Tensor) -> None:
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise ValueError("the model has lazy parameters without a shape yet; run it once on a batch first")
        self._tensor = tensor
        self._value = tensor.detach().clone()
        self._requires_grad = tensor.requires_grad
        self._gradient = tensor.grad if tensor.is_leaf else None
        self._gradient_value = None if self._gradient is None else self._gradient.detach().clone()

    @property
    def is_parameter(self) -> bool:
        return isinstance(self._tensor, nn.Parameter)

    def restore_value(self) -> None:
        tensor = self._tensor
        if not _same(tensor.detach(), self._value):
            tensor.data = self._value.clone() if tensor.shape != self._value.shape else tensor.data
            tensor.data.copy_(self._value)

    def restore_gradient(self) -> None:
        tensor = self._tensor
        if tensor.is_leaf:
            tensor.requires_grad_(self._requires_grad)
            if self._gradient is not None and self._gradient_value is not None:
                self._gradient.detach().copy_(self._gradient_value)
            tensor.grad = self._gradient


def _same(tensor: Tensor, value: Tensor) -> bool:
    """Tell whether two tensors hold the same numbers; NaN is never the same, so that it is written again."""
    return tensor.shape == value.shape and torch.equal(tensor, value)


class _Optimizer:
    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._groups = [{**group, "params": list(group["params"])} for group in optimizer.param_groups]
        self._state = {key: _copied(value) for key, value in optimizer.state.items()}
        hooks: list[Any] = [optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks]
        self._hooks = [(held, dict(held)) for held in hooks]

    def restore(self) -> None:
        groups = self._optimizer.param_groups
        del groups[len(self._groups) :]
        for group, kept in zip(groups, self._groups, strict=True):
            group.clear()
            group.update({**kept, "params": list(kept["params"])})
        for held, kept_hooks in self._hooks:
            held.clear()
            held.update(kept_hooks)
        self._optimizer.state.clear()
        self._optimizer.state.update({key: _copied(value) for key, value in self._state.items()})


def _copied(value: Any) -> Any:
    """Copy the tensors in an optimizer's state."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(held) for key, held in value.items()}
    return type(value)(_copied(held) for held in value) if type(value) in (list, tuple) else value


def _each(roots: Sequence[nn.Module]) -> list[nn.Module]:
    return list({id(module): module for root in roots for module in root.modules()}.values())
