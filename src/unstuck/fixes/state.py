"""All that a training step may change, kept so that it can be put back bit for bit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim.optimizer import Optimizer

PLAIN = (int, float, bool, str, bytes, type(None), torch.Size, torch.dtype, torch.device)
"""Attributes of modules that are put back as well: a counter of calls, say."""

CONTAINERS = (list, dict, set, deque)
"""So are the entries of these, but not what the entries hold in turn."""

TORCHS_OWN = ("_parameters", "_buffers", "_modules")


class Generators:
    """The states of the random number generators of Python, NumPy and torch (CPU and CUDA), and of `others`."""

    def __init__(self, others: Iterable[torch.Generator] = ()) -> None:
        self._others = [(generator, generator.get_state()) for generator in others]
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]

    def restore(self) -> None:
        """Set the generators back; may be called again."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        for generator, state in self._others:
            generator.set_state(state)


class Snapshot:
    """The state of modules, of the optimizers of their parameters, and of the random number generators.

    Of modules: which submodules, parameters and buffers they hold under which name, those tensors' values, gradients
    and `requires_grad`, the mode, plain attributes and the entries of containers. `restore` puts all of it back in
    place, so that references to the tensors (an optimizer's, a closure's) stay valid; it may be called again. Values
    are copied, on their device; `tensors` are further ones to keep.
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

    def renew(self, tensors: Sequence[Tensor]) -> None:
        """Keep what some of the tensors hold now instead of what they held."""
        wanted = {id(tensor) for tensor in tensors}
        for kept in self._tensors:
            if id(kept.tensor) in wanted:
                kept.renew()

    def restore_values(self) -> None:
        """Put the values of parameters and buffers back alone, while a script trains."""
        with torch.no_grad():
            for tensor in self._tensors:
                tensor.restore_value()


class _Module:
    def __init__(self, module: nn.Module) -> None:
        self._module, own = module, vars(module)
        self._parameters, self._buffers, self._children = (dict(getattr(module, name)) for name in TORCHS_OWN)
        self._attributes = {name: own[name] for name in _kept_names(own)}
        self._entries = [(held, held.copy()) for held in self._attributes.values() if type(held) in CONTAINERS]

    def tensors(self) -> list[Tensor]:
        held: list[Any] = [*self._parameters.values(), *self._buffers.values(), *self._attributes.values()]
        return [tensor for tensor in held if isinstance(tensor, Tensor)]

    def restore(self) -> None:
        own = vars(self._module)
        for name, kept in zip(TORCHS_OWN, (self._parameters, self._buffers, self._children), strict=True):
            held = getattr(self._module, name)
            if [(key, id(value)) for key, value in held.items()] != [(k, id(v)) for k, v in kept.items()]:
                held.clear()
                held.update(kept)
        for name in _kept_names(own):
            if name not in self._attributes:
                del own[name]
        own.update(self._attributes)
        for container, entries in self._entries:
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(entries)


def _kept_names(attributes: dict[str, Any]) -> list[str]:
    """Return the names of those attributes of a module that can be put back."""
    return [
        name
        for name, value in attributes.items()
        if name not in TORCHS_OWN and (isinstance(value, (*PLAIN, Tensor)) or type(value) in CONTAINERS)
    ]


class _Tensor:
    def __init__(self, tensor: Tensor) -> None:
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise ValueError("the model has lazy parameters without a shape yet; run it once on a batch first")
        self.tensor = tensor
        self._value = tensor.detach().clone()
        self._requires_grad = tensor.requires_grad
        self._gradient = tensor.grad if tensor.is_leaf else None
        self._gradient_value = None if self._gradient is None else self._gradient.detach().clone()

    @property
    def is_parameter(self) -> bool:
        return isinstance(self.tensor, nn.Parameter)

    def renew(self) -> None:
        self._value = self.tensor.detach().clone()

    def restore_value(self) -> None:
        tensor = self.tensor
        if _same(tensor.detach(), self._value):
            return
        if (tensor.shape, tensor.dtype, tensor.device) == (self._value.shape, self._value.dtype, self._value.device):
            tensor.data.copy_(self._value)
        else:
            tensor.data = self._value.clone()

    def restore_gradient(self) -> None:
        tensor = self.tensor
        if tensor.is_leaf:
            tensor.requires_grad_(self._requires_grad)
            if self._gradient is not None and self._gradient_value is not None:
                self._gradient.detach().copy_(self._gradient_value)
            tensor.grad = self._gradient


def _same(tensor: Tensor, value: Tensor) -> bool:
    """Tell whether two tensors hold the same bits: 0 is not -0, and a NaN is itself; no where bits cannot be seen."""
    if (tensor.shape, tensor.dtype, tensor.device) != (value.shape, value.dtype, value.device):
        return False
    if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg():
        return tensor.is_meta
    return torch.equal(*(held.contiguous().reshape(-1).view(torch.uint8) for held in (tensor, value)))


class _Optimizer:
    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._groups = [(group, {**group, "params": list(group["params"])}) for group in optimizer.param_groups]
        rates = [value for group, _ in self._groups for value in group.values() if isinstance(value, Tensor)]
        self._rates = [(rate, rate.detach().clone()) for rate in rates]  # a scheduler changes these in place
        self._state = {key: _copied(value) for key, value in optimizer.state.items()}
        hooks: list[Any] = [optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks]
        self._hooks = [(held, dict(held)) for held in hooks]

    def restore(self) -> None:
        self._optimizer.param_groups[:] = [group for group, _ in self._groups]
        for group, kept in self._groups:
            group.clear()
            group.update({**kept, "params": list(kept["params"])})
        for rate, value in self._rates:
            rate.copy_(value)
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
