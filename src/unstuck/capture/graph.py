"""Which operation made this tensor: kept for one step, by weak reference."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from unstuck.capture.call import TorchCall


@dataclass(frozen=True)
class Replay:
    """A chain of torch calls that can be made again: used only while a repair is under way at step 0.

    `position` is the index of the argument that came from `parent`; None when the call starts the chain.
    """

    call: TorchCall
    position: int | None = None
    parent: Replay | None = None

    def again(self) -> Any:
        """Make the calls of the chain once more, first to last, and return the last one's result."""
        args, kwargs = self.call.args, self.call.kwargs
        if self.parent is not None and self.position is not None:
            args = (*args[: self.position], self.parent.again(), *args[self.position + 1 :])
        return self.call.func(*args, **kwargs)

    @property
    def first(self) -> Replay:
        """The start of the chain."""
        return self if self.parent is None else self.parent.first


class Origin(NamedTuple):
    """Where a tensor came from.

    `sites` are the nearest sites upstream; `direct` says that only transparent operations stand between; `leaf` is
    the parameter of which the tensor is a view; `unit_dim` the dimension of its units; `replay` the chain of
    calls that makes it again.
    """

    sites: tuple[int, ...] = ()
    direct: bool = True
    leaf: Tensor | None = None
    transposed: bool = False
    unit_dim: int = -1
    replay: Replay | None = None


NOWHERE = Origin()


class Origins:
    """Tensor -> Origin, by identity; entries do not keep the tensors alive."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}

    def of(self, tensor: object) -> Origin | None:
        """Return where `tensor` came from, or None when it was not seen being made."""
        entry = self._entries.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def set(self, tensor: Tensor, origin: Origin) -> None:
        """Note where `tensor` came from."""
        self._entries[id(tensor)] = (weakref.ref(tensor), origin)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def union(self, tensors: Iterable[Tensor]) -> tuple[int, ...]:
        """Return the sites upstream of any of `tensors`, each once, in order."""
        found = {site: None for t in tensors for site in (self.of(t) or NOWHERE).sites}
        return tuple(found)


def tensors_in(values: Iterable[Any], depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and dicts."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif depth and isinstance(value, list | tuple):
            yield from tensors_in(value, depth - 1)
        elif depth and isinstance(value, dict):
            yield from tensors_in(value.values(), depth - 1)
