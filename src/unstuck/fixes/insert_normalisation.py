"""insert-normalisation: give each layer of a deep plain chain a norm of its own."""

from __future__ import annotations

import numpy as np
from torch import nn

from unstuck.findings import Finding
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Layer, Patient, Remedy, Withheld
from unstuck.fixes.structure import Seat, join_optimizer, leave, seat_of
from unstuck.rules.depth import chains
from unstuck.trace import Kind, Role, Site

MIN_BATCH = 16  # samples; statistics of fewer are too noisy (Wu & He 2018, https://arxiv.org/abs/1803.08494, figure 1)

BATCH_NORMS: dict[type[nn.Module], type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


class InsertNormalisation(Remedy):
    """Put a normalisation between each weight layer of a deep plain chain and the function that follows it.

    ## What it does
    Inserts batch normalisation behind the linear and convolution modules of the chain that the finding speaks of, where
    batches have 16 samples or more; layer normalisation (over the channels and positions of a convolution) where they
    have fewer, or where a linear layer is applied to sequences. In an `nn.Sequential` that is called as a whole it
    becomes an entry of its own; any other layer is replaced by a small `nn.Sequential` of both. A bias that batch
    normalisation makes redundant is dropped. The new parameters join the optimizer's group of their layer.

    ## When it must not be used
    On loaded weights, and where training is resumed from checkpoints: names in the state dict change. Not in networks
    that are meant to keep the scale of their inputs. Refused for raw tensors, for modules used twice, and for modules
    of other types.

    ## References
    Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167; Ba et al. 2016, https://arxiv.org/abs/1607.06450
    """

    name = "insert-normalisation"
    in_flight = True
    rewinds = True
    initialises = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Insert norms behind all layers of the finding's chain."""
        if patient.pretrained:
            raise Withheld("the network has loaded weights")
        layers = next((c.layers for c in chains(patient.trace) if c.layers[0].index == finding.site_index), ())
        if not layers:
            raise Withheld("the chain of layers is not known any more")
        places = [(layer := patient.layer_at(site), seat_of(patient, layer.weight)) for site in layers]
        rounds = min(_calls(patient, site) for site in patient.trace.of_kind(Kind.WEIGHT_LAYER))
        for layer, seat in places:
            if type(seat.module) not in BATCH_NORMS:
                raise Withheld(
                    f"{seat.path} is a {type(seat.module).__name__}, not a plain linear layer or convolution"
                )
            if not any(held is layer.weight for held in seat.module._parameters.values()):
                raise Withheld(f"{seat.path} computes its weight from others")
            if _calls(patient, layer.site) > rounds:
                raise Withheld(f"{seat.path} runs several times in a pass")
        patient.rewind()
        batched = patient.batch_size >= MIN_BATCH
        norms = [_insert(patient, layer, seat, batched=batched) for layer, seat in reversed(places)][::-1]
        return [
            self.fix(
                finding,
                site=", ".join(path for path, _ in norms),
                statistic="change of the gradient's norm over the chain",
                snippet=_snippet(norms),
                step=patient.step,
            )
        ]


def _calls(patient: Patient, site: Site) -> int:
    """Return how often a layer ran in one step; more than once as well where gradients are accumulated."""
    return int(max((count for _, count in patient.trace.scalars(site, "calls")), default=1))


def _insert(patient: Patient, layer: Layer, seat: Seat, *, batched: bool) -> tuple[str, nn.Module]:
    """Insert a norm behind a layer; the last layer first, so that the entries of a sequence keep their numbers."""
    module = seat.module
    norm = _norm(module, batched=batched and _is_plain(patient, layer)).to(layer.weight.device, layer.weight.dtype)
    join_optimizer(patient, norm, layer.weight)
    bias = module._parameters.get("bias")
    if bias is not None and isinstance(norm, nn.modules.batchnorm._BatchNorm):
        module._parameters["bias"] = None
        leave(patient, [bias])
    seat.insert_after(norm, entry=patient.network.has_run(seat.parent))  # else its entries are called by their numbers
    return seat.path, norm


def _is_plain(patient: Patient, layer: Layer) -> bool:
    """Tell whether a linear layer is given rows, not sequences: batch normalisation takes features second."""
    if layer.weight.dim() > 2:
        return True
    _, counts = patient.trace.series(layer.site, Role.OUTPUT, "count")
    return len(counts) > 0 and float(np.median(counts)) <= patient.batch_size * len(layer.weight)


def _norm(module: nn.Module, *, batched: bool) -> nn.Module:
    units = int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)  # type: ignore[arg-type]
    if batched:
        return BATCH_NORMS[type(module)](units)
    return nn.LayerNorm(units) if isinstance(module, nn.Linear) else nn.GroupNorm(1, units)


def _snippet(norms: list[tuple[str, nn.Module]]) -> str:
    lines = []
    for path, norm in norms:
        batched = isinstance(norm, nn.modules.batchnorm._BatchNorm)
        arguments = f"1, {norm.num_channels}" if isinstance(norm, nn.GroupNorm) else f"{len(norm.weight)}"  # type: ignore[arg-type]
        lines.append(
            f"nn.{type(norm).__name__}({arguments})  # after {path}" + (" (bias=False there)" if batched else "")
        )
    lines.append("# this changes names in state_dict(): checkpoints of the network without the norms do not load")
    return "\n".join(lines)
