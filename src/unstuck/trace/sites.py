"""A site: a place in the program where a tensor is observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath


class Kind(StrEnum):
    """What sort of place a site is."""

    WEIGHT_LAYER = "weight layer"
    RECURRENT = "recurrent layer"
    EMBEDDING = "embedding"
    ACTIVATION = "activation"
    NORM = "norm"
    DROPOUT = "dropout"
    SOFTMAX = "softmax"
    ATTENTION = "attention"
    LOSS = "loss"
    CUSTOM = "custom function"  # a torch.autograd.Function: what it does is not known
    PARAMETER = "parameter"
    OPERATION = "operation"  # any other one, where a non-finite value first appeared
    ADDITION = "addition"  # in the first step: of two tensors that sites made; it has no edges, see the vectors there
    BACKWARD = "backward call"
    OPTIMIZER = "optimizer"  # one parameter group; `parameters` are those it updates
    LOADER = "data loader"  # a loop over one that got nothing
    CLIPPING = "gradient clipping"
    EVALUATION = "evaluation"  # a norm or dropout in a pass without gradients between training steps


class Role(StrEnum):
    """Which tensor of a site a summary speaks of."""

    INPUT = "input"  # of an activation function: the pre-activation; of a weight layer: data from outside the network
    OUTPUT = "output"
    OUTPUT_GRADIENT = "gradient at output"
    VALUE = "value"  # of a parameter, before the step's update
    GRADIENT = "gradient"  # of a parameter
    UPDATE = "update"  # of a parameter: value after the step minus value before


Key = tuple[int, Role]
"""What a row of a table speaks of: a site's index and a role."""


@dataclass(frozen=True)
class Location:
    """The user's source line: absolute file name, 1-based line, and the function's name."""

    file: str
    line: int
    function: str = "<module>"

    def __str__(self) -> str:
        return f"{PurePath(self.file).name}:{self.line}"


@dataclass
class Site:
    """One place, the same in every step.

    `op` is the torch function ("tanh", "linear", "conv2d"); `path` the module path ("blocks.0.fc", "" for raw
    tensors) or a parameter's name, `variable` the name of a raw parameter or of a raw layer's weight, `module` the
    running module's class; `order` counts places in the order of first execution. For activation functions
    `interval` is the responsive interval, `gain` the initialisation gain and `bounded` whether both sides saturate.
    For weight layers `fan_in` is the number of inputs of a unit and `parameters` the indices of the parameter sites
    (weight first, then bias). For parameters `owner` is the index of the first site that used it and `slot` its part
    there; `owner` is None for parameters which no observed call used.
    """

    index: int
    kind: Kind
    op: str
    path: str
    location: Location | None
    order: int
    ordinal: int = 0
    module: str = ""
    variable: str = ""
    interval: tuple[float, float] | None = None
    gain: float | None = None
    bounded: bool = False
    fan_in: int | None = None
    parameters: tuple[int, ...] = ()
    owner: int | None = None
    slot: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    requires_grad: bool = True
    update_stride: int = 1

    @property
    def label(self) -> str:
        """The name to print: module path or variable with the operation, and a counter where several share a line."""
        if self.kind is Kind.PARAMETER:
            return self.path or f"parameter {self.index}"
        name = self.path or self.variable
        base = f"{name} ({self.op})" if name else self.op
        return f"{base} #{self.ordinal + 1}" if self.ordinal else base


@dataclass(frozen=True)
class Edge:
    """`producer` made (part of) the input of `consumer`.

    `direct` means that nothing but views, casts, bias additions and the like stands between them.
    """

    producer: int
    consumer: int
    direct: bool = field(default=True)
