"""What fixes a model's parameters and their shapes, and what each kind of model starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unstuck.lm.activations import ACTIVATIONS
from unstuck.lm.errors import LmError, require_choice, require_positive, require_whole
from unstuck.lm.examples import LONGEST_CONTEXT

INITS = ("naive", "small-output", "fan-in", "kaiming")
NORMS = ("none", "batch", "layer")
KINDS = ("mlp", "gru", "transformer")
DEFAULTS: dict[str, dict[str, Any]] = {  # where a kind of model departs from the fields' own defaults
    "mlp": {},
    "gru": {
        "context": 32,
        "embedding": 64,
        "hidden": 256,
        "init": "fan-in",
        "norm": "none",
        "dropout": 0.2,
    },
    "transformer": {
        "context": 32,
        "embedding": 64,
        "hidden": 128,
        "depth": 2,
        "activation": "gelu",
        "init": "fan-in",
        "norm": "layer",
        "heads": 2,
    },
}
_FIXED: dict[str, dict[str, Any]] = {  # what a kind of model leaves no choice in
    "mlp": {"dropout": 0.0, "heads": 1},
    "gru": {"activation": "tanh", "init": "fan-in", "norm": "none", "residual": False, "heads": 1},
    "transformer": {"init": "fan-in", "norm": "layer", "residual": False},
}


def _since_2(default: Any) -> Any:
    """A field that checkpoints of format version 1 do not have; its default is what they meant."""
    return field(default=default, metadata={"since": 2})


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model; raises LmError for values that cannot be.

    `hidden` is the width of an `mlp`'s or a `gru`'s layers, and of a `transformer`'s feed-forward layers, whose own
    width is `embedding`. `residual` adds an `mlp`'s hidden layers from the second on to their inputs. The context of a
    `gru` or `transformer` may be longer than the words: it costs nothing then.
    """

    symbols: int
    context: int = 3
    embedding: int = 10
    hidden: int = 200
    depth: int = 1
    activation: str = "tanh"
    init: str = "kaiming"
    norm: str = "batch"
    kind: str = _since_2("mlp")
    residual: bool = _since_2(False)
    dropout: float = _since_2(0.0)
    heads: int = _since_2(1)

    def __post_init__(self) -> None:
        """Check every value."""
        require_choice("model", self.kind, KINDS)
        require_whole("symbols", self.symbols, 2, 1_114_113)
        require_whole("context", self.context, 1, LONGEST_CONTEXT)
        require_whole("embedding", self.embedding, 1, 65_536)
        require_whole("hidden", self.hidden, 1, 65_536)
        require_whole("depth", self.depth, 1, 1_000)
        require_choice("activation", self.activation, ACTIVATIONS)
        require_choice("init", self.init, INITS)
        require_choice("norm", self.norm, NORMS)
        require_positive("dropout", self.dropout, zero=True)
        if self.dropout >= 1:
            raise LmError(f"dropout is {self.dropout}: give a share from 0 up to, not including, 1")
        require_whole("heads", self.heads, 1, 65_536)
        for name, value in _FIXED[self.kind].items():
            if getattr(self, name) != value:
                raise LmError(f"{name} is {getattr(self, name)} and a model of kind {self.kind} has {value}: {_ADVICE}")
        if self.residual and self.depth == 1:
            raise LmError("residual does nothing with depth 1: leave it out, or give a depth of 2 or more")
        if self.embedding % self.heads:
            raise LmError(
                f"embedding is {self.embedding} and heads is {self.heads}: give an embedding that is a multiple of it"
            )

    @classmethod
    def of(cls, kind: str, symbols: int, **options: Any) -> ModelConfig:
        """The `kind`'s own defaults with `options` in their place."""
        require_choice("model", kind, KINDS)
        return cls(symbols, **{**DEFAULTS[kind], "kind": kind, **options})

    @property
    def reads_words(self) -> bool:
        """Whether the model predicts at every place of a word at once, rather than after one window of symbols."""
        return self.kind != "mlp"


_ADVICE = "leave it out, or choose another model"
