"""standardise-input: give the first layer its data with mean 0 and standard deviation 1.

After LeCun et al. 1998, section 4.3, https://doi.org/10.1007/3-540-49430-8_2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unstuck.findings import Finding
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.fixes.structure import seat_of
from unstuck.stats.summary import UnitSummary
from unstuck.trace import Role, Site

CONSTANT = 1e-6  # of a feature's largest value; float32 computes a constant feature to that precision


class StandardisedInput(nn.Module):
    """A layer that is given (x - mean) / std instead of x, which may be a packed sequence.

    `mean` and `std` are buffers that broadcast against x. Attributes that this module has not are those of the layer.
    """

    def __init__(self, layer: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.train(layer.training)

    def forward(self, input: Tensor | PackedSequence, *args: Any, **kwargs: Any) -> Any:
        """Standardise the first argument, by torch's name for it, and call the layer."""
        if isinstance(input, PackedSequence):
            return self.layer(input._replace(data=(input.data - self.mean) / self.std), *args, **kwargs)
        return self.layer((input - self.mean) / self.std, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Look in the layer for what this module has not."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class StandardiseInput(Remedy):
    """Standardise each feature of the data that a layer is given.

    ## What it does
    Takes mean and standard deviation of each feature (each channel of images) over the batches watched so far, and
    replaces the layer in its model by a module that subtracts the one and divides by the other before it calls the
    layer. Both are buffers: they are saved with the model, and evaluation uses the same numbers. Constant features are
    centred alone.

    ## When it must not be used
    On loaded weights, which were trained with the data as it was; on one-hot and other sparse features, whose zeros
    mean something (the rules do not fire there); where training is resumed from checkpoints: in the state dict the
    names of the layer's parameters change, and those of the two buffers are new; where a data pipeline of your own can
    do it, which is the better place and changes no name: use the snippet. Refused where the data enters through raw
    tensors or a module used in two places.

    ## References
    LeCun et al. 1998, Efficient BackProp, section 4.3, https://doi.org/10.1007/3-540-49430-8_2
    """

    name = "standardise-input"
    in_flight = True
    rewinds = True
    initialises = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Put the standardisation in front of the layer that the finding names."""
        if patient.pretrained:
            raise Withheld("the network has loaded weights")
        if finding.site_index is None:
            raise Withheld("the finding names no layer")
        site = patient.trace.sites[finding.site_index]
        units = patient.trace.merged(site, Role.INPUT).units
        weight = next((p for i in site.parameters if (p := patient.network.parameter(i)) is not None), None)
        if units is None or weight is None:
            raise Withheld(f"{site.label} has no parameters, or its features are not known")
        seat = seat_of(patient, weight)
        mean, std = moments(units)
        shape = (-1,) + (1,) * trailing(site, weight)
        patient.rewind()
        buffers = (torch.tensor(v, device=weight.device, dtype=weight.dtype).reshape(shape) for v in (mean, std))
        seat.put(StandardisedInput(seat.module, *buffers))
        before = _spread(units)
        return [
            self.fix(
                finding,
                site=seat.path,
                statistic="root mean square of the input",
                before=before,
                after=_spread_after(units, mean, std),
                unit="1",
                snippet=f"x = (x - {_numbers(mean, shape)}) / {_numbers(std, shape)}  # before {seat.path}\n"
                f"# mended here, state_dict() has {seat.path}.layer.* for {seat.path}.*, and {seat.path}.mean and .std",
                step=patient.step,
            )
        ]


def moments(units: UnitSummary) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """Return mean and standard deviation of each feature, shape (units,); 1 for those that do not vary."""
    finite = np.maximum(units.count - units.nonfinite, 1)
    mean, std = units.total / finite, np.sqrt(np.nan_to_num(units.variance))
    largest = np.maximum(np.abs(units.minimum), np.abs(units.maximum))
    return mean, np.where(std > CONSTANT * largest, std, 1.0)


def trailing(site: Site, weight: Tensor) -> int:
    """Return how many dimensions of the data come after that of the features."""
    return weight.dim() - 2 if site.op.startswith("conv") else 0


def _spread(units: UnitSummary) -> float:
    return float(np.sqrt(units.squares.sum() / max(1, (units.count - units.nonfinite).sum())))


def _spread_after(units: UnitSummary, mean: Any, std: Any) -> float:
    finite = np.maximum(units.count - units.nonfinite, 1)
    squares = (units.squares - 2 * mean * units.total + finite * mean**2) / std**2
    return float(np.sqrt(max(0.0, squares.sum()) / finite.sum()))


def _numbers(values: Any, shape: tuple[int, ...]) -> str:
    if len(values) == 1:
        return f"{values[0]:.6g}"
    listed = f"torch.tensor([{', '.join(f'{value:.6g}' for value in values)}])"
    return listed if len(shape) == 1 else f"{listed}.reshape{shape}"
