"""One torch call as the function mode sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(slots=True)
class TorchCall:
    """A call of torch's Python API: the operation's plain name ("tanh" for `tanh_` too), function and arguments."""

    op: str
    func: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def arg(self, position: int | None, name: str) -> Any:
        """Return an argument however it was passed; None when it was not."""
        if position is not None and len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name)

    @property
    def input(self) -> Any:
        """The first argument."""
        return self.arg(0, "input")

    def with_input(self, value: Tensor) -> TorchCall:
        """Return the same call with its first argument replaced."""
        if self.args:
            return replace(self, args=(value, *self.args[1:]))
        return replace(self, kwargs={**self.kwargs, "input": value})


def op_name(func: Function) -> str:
    """Return a function's name: "tanh", "__getitem__"; for a property's getter the property's name ("T")."""
    name: str = getattr(func, "__name__", "")
    return getattr(getattr(func, "__self__", None), "__name__", name) if name == "__get__" else name


def plain_op(name: str) -> str:
    """Strip the underscore of an in-place operation."""
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def transformed() -> bool:
    """Whether the call is part of a trace or of a transform of `torch.func`: its tensors hold no numbers to measure."""
    return torch._C._get_tracing_state() is not None or torch._C._functorch.maybe_current_level() is not None
