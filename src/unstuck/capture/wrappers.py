"""Modules that only wrap another one: their layers keep the names they have without the wrapper; tensors in shards.

`named_modules()` of a wrapped model says "module.fc" (DataParallel, DistributedDataParallel) or "_orig_mod.fc"
(`torch.compile`); here it stays "fc", so that findings and records of wrapped and bare runs can be compared.
`fully_shard` (https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html) wraps nothing, but changes the
class of a module into a subclass called "FSDPLinear".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import torch
from torch import Tensor, nn

INNER = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
}
"""Class of a wrapper -> the attribute that holds what it wraps."""


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside all wrappers."""
    while (inner := INNER.get(type(module).__name__)) is not None and inner in module._modules:
        module = getattr(module, inner)
    return module


def own_class(module: nn.Module) -> type[nn.Module]:
    """Return a module's class as the program wrote it."""
    kind = type(module)
    if kind.__name__.startswith("FSDP") and any(base.__name__ == "FSDPModule" for base in kind.__bases__):
        return next(base for base in kind.__bases__ if issubclass(base, nn.Module))
    return kind


def plain_modules(root: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Yield (path, path without wrappers, module) of `named_modules()`."""
    seen: dict[str, tuple[nn.Module, str]] = {}
    for path, module in root.named_modules():
        parent, _, name = path.rpartition(".")
        if path:
            above, plain = seen[parent]
            if INNER.get(type(above).__name__) != name:
                plain = f"{plain}.{name}" if plain else name
        else:
            plain = ""
        seen[path] = module, plain
        yield path, plain, module


def plain_parameters(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (path without wrappers, parameter) of all parameters, each once."""
    known = set()
    for _, plain, module in plain_modules(root):
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in known:
                known.add(parameter)
                yield f"{plain}.{name}" if plain else name, parameter


def sharded(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor, of which each process holds a part."""
    return type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: all of it, or its shard of a DTensor, detached."""
    if not sharded(tensor):
        return tensor
    shard: Tensor = tensor.detach().to_local()  # type: ignore[attr-defined]
    return shard


def plain(value: object) -> TypeGuard[Tensor]:
    """Tell whether a value is a tensor whose elements this process holds and can read: no subclass, not empty."""
    if not isinstance(value, Tensor) or type(value) not in (Tensor, nn.Parameter) or value.is_nested:
        return False
    return value.layout is torch.strided and value.device.type != "meta" and value.numel() > 0


def several_processes() -> bool:
    """Tell whether this process trains together with others, which hold copies or shards of the same parameters."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
