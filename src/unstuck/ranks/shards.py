"""What a rank holds of a parameter: a copy that all have, or a part of it; and how the model is spread.

A DTensor says by its placements (https://docs.pytorch.org/docs/stable/distributed.tensor.html) along which dimensions
of the mesh of ranks it is cut. FSDP1 keeps flat parameters that say nothing; all that it wraps is taken for parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple

from torch import Tensor, nn

from unstuck.capture.wrappers import own_class, sharded


class Held(Enum):
    """How a rank's numbers of a parameter count."""

    ONE = "the whole, as every rank"
    PART = "a part that is counted here"
    AGAIN = "a part that another rank counts"


class Spread(NamedTuple):
    """How a model is spread over the ranks: by DDP or FSDP, by FSDP1, and layers cut by tensor parallelism."""

    data_parallel: bool = False
    flat: bool = False
    tensor_parallel: bool = False


def held(parameter: Tensor, spread: Spread) -> Held:
    """Tell how this rank's numbers of a parameter count."""
    if not sharded(parameter):
        return Held.PART if spread.flat else Held.ONE
    part: Any = parameter
    cut = [placement.is_shard() for placement in part.placements]
    if not any(cut):
        return Held.ONE
    place = part.device_mesh.get_coordinate()
    counts = place is not None and all(known or not at for known, at in zip(cut, place, strict=True))
    return Held.PART if counts else Held.AGAIN


def spread_of(models: Iterable[nn.Module]) -> Spread:
    """Tell how models are spread."""
    data = flat = tensor = False
    for model in models:
        managed = False
        for module in model.modules():
            name = type(module).__name__
            managed = managed or own_class(module) is not type(module)
            flat = flat or name == "FullyShardedDataParallel"
            data = data or managed or flat or name == "DistributedDataParallel"
        own = any(sharded(p) and any(s.is_shard() for s in _placements(p)) for p in model.parameters())
        tensor = tensor or (own and (not managed or any(len(_placements(p)) > 1 for p in model.parameters())))
    return Spread(data, flat, tensor)


def _placements(parameter: Tensor) -> tuple[Any, ...]:
    return tuple(getattr(parameter, "placements", ()))
