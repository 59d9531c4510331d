"""What torch's functions are: activations with their responsive interval and gain, losses with their baseline.

The responsive interval holds the inputs where the local derivative is at least 6 % of its maximum; the numbers are
checked against numeric differentiation by a test. Gains are those of `torch.nn.init.calculate_gain`
(https://docs.pytorch.org/docs/stable/nn.init.html) where it knows the function, else 1 / rms f(z) for z ~ N(0, 1), the
same reasoning (He et al. 2015, https://arxiv.org/abs/1502.01852).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

INF = math.inf
RESPONSIVE_SHARE = 0.06  # of the largest derivative; puts tanh's limit at |tanh x| = 0.97, as the lecture has it


@dataclass(frozen=True)
class Activation:
    """An activation function: responsive interval, initialisation gain, and whether it saturates on both sides."""

    interval: tuple[float, float]
    gain: float

    @property
    def bounded(self) -> bool:
        """Whether both ends of the interval are finite."""
        return math.isfinite(self.interval[0]) and math.isfinite(self.interval[1])


ROOT2 = math.sqrt(2.0)
POSITIVE = 2.0**-149  # the least float32 above zero: a ReLU passes no gradient at zero itself
_FIXED: dict[str, Activation] = {
    "tanh": Activation((-2.0845, 2.0845), 5 / 3),
    "sigmoid": Activation((-4.1690, 4.1690), 1.0),
    "hardtanh": Activation((-1.0, 1.0), 1.392),
    "hardsigmoid": Activation((-3.0, 3.0), 1.0),
    "softsign": Activation((-3.0825, 3.0825), 2.337),
    "erf": Activation((-1.6773, 1.6773), 1.467),
    "relu6": Activation((POSITIVE, 6.0), ROOT2),
    "relu": Activation((POSITIVE, INF), ROOT2),
    "selu": Activation((-2.8134, INF), 0.75),
    "gelu": Activation((-2.1647, INF), 1.533),
    "silu": Activation((-3.6169, INF), 1.676),
    "mish": Activation((-3.6868, INF), 1.486),
    "hardswish": Activation((-3.0, INF), 1.736),
    "softplus": Activation((-2.7515, INF), 1.042),
    "logsigmoid": Activation((-INF, 2.7515), 1.042),
    "softshrink": Activation((-INF, INF), 1.0),
    "hardshrink": Activation((-INF, INF), 1.0),
    "tanhshrink": Activation((-INF, INF), 1.0),
    "prelu": Activation((-INF, INF), ROOT2),
    "rrelu": Activation((-INF, INF), ROOT2),
}
_ALIASES = {"log_sigmoid": "logsigmoid", "threshold": "relu", "clamp_min": "relu"}
_LEAKY_DEFAULT, _ELU_DEFAULT = 0.01, 1.0


ACTIVATION_OPS = frozenset({*_FIXED, *_ALIASES, "leaky_relu", "elu", "celu"})


def activation(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Activation | None:
    """Return what `op` (without its in-place underscore) is when called so, or None when it is no activation."""
    op = _ALIASES.get(op, op)
    if op == "relu" and not _is_zero(_argument(args, kwargs, 1, ("threshold", "min"), 0.0)):
        return None  # a threshold or clamp elsewhere than at zero
    if op == "leaky_relu":
        return _leaky(_number(_argument(args, kwargs, 1, ("negative_slope",), _LEAKY_DEFAULT), _LEAKY_DEFAULT))
    if op in ("elu", "celu"):
        alpha = _number(_argument(args, kwargs, 1, ("alpha",), _ELU_DEFAULT), _ELU_DEFAULT)
        return _celu(alpha) if op == "celu" else _elu(alpha)
    return _FIXED.get(op)


def _leaky(slope: float) -> Activation:
    lower = POSITIVE if abs(slope) < RESPONSIVE_SHARE * max(1.0, abs(slope)) else -INF
    return Activation((lower, INF), math.sqrt(2.0 / (1.0 + slope * slope)))


def _elu(alpha: float) -> Activation:
    """ELU's derivative is alpha·exp(x) below zero and 1 above it."""
    peak = max(1.0, alpha)
    lower = min(0.0, math.log(RESPONSIVE_SHARE * peak / alpha)) if alpha > 0 else 0.0
    return Activation((lower, INF), 1.245)


def _celu(alpha: float) -> Activation:
    """CELU's derivative is exp(x / alpha) below zero and 1 above it."""
    return Activation((alpha * math.log(RESPONSIVE_SHARE), INF), 1.245)


def _argument(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, names: tuple[str, ...], default: Any
) -> Any:
    if len(args) > position:
        return args[position]
    return next((kwargs[name] for name in names if name in kwargs), default)


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and value == 0


# Weight layers: op -> positions of (input, weight, bias) among the arguments; None where there is none.
WEIGHT_OPS: dict[str, tuple[int, int, int | None]] = {
    "linear": (0, 1, 2),
    "conv1d": (0, 1, 2),
    "conv2d": (0, 1, 2),
    "conv3d": (0, 1, 2),
    "conv_transpose1d": (0, 1, 2),
    "conv_transpose2d": (0, 1, 2),
    "conv_transpose3d": (0, 1, 2),
    "addmm": (1, 2, 0),
}
MATMUL_OPS = frozenset({"matmul", "mm", "bmm", "mv", "grouped_mm", "_grouped_mm", "__matmul__", "__rmatmul__"})
EMBEDDING_OPS = frozenset({"embedding", "embedding_bag", "__getitem__"})
ATTENTION_OPS = frozenset({"scaled_dot_product_attention", "flex_attention"})
CONVOLUTIONS = {f"conv{t}{d}d": d for t in ("", "_transpose") for d in (1, 2, 3)}
NORM_OPS: dict[str, tuple[int | None, int | None]] = {  # op -> positions of (weight, bias)
    "batch_norm": (3, 4),
    "layer_norm": (2, 3),
    "group_norm": (2, 3),
    "instance_norm": (3, 4),
    "rms_norm": (2, None),
    "local_response_norm": (None, None),
}
NATIVE_NORM_POSITIONS = (1, 2, 3)  # of (weight, bias, running_mean) in torch.batch_norm and torch.instance_norm
RECURRENT_OPS = frozenset(
    {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
)
DROPOUT_OPS = frozenset(
    {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout"}
)
SOFTMAX_OPS = frozenset({"softmax", "log_softmax", "softmin"})

# Operations that only rearrange, cast or copy: what follows them follows what came before.
TRANSPARENT_OPS = frozenset(
    """
    view reshape flatten unflatten squeeze unsqueeze transpose permute swapaxes swapdims movedim moveaxis t
    contiguous cpu cuda to float double half bfloat16 type type_as clone expand expand_as view_as reshape_as T mT H mH
    identity requires_grad_ retain_grad
    """.split()
)
PART_OPS = frozenset({"chunk", "split", "unbind", "narrow", "select", "tensor_split", "split_with_sizes"})
KEEPS_UNIT_DIM = frozenset(
    """
    contiguous cpu cuda to float double half bfloat16 type type_as clone requires_grad_
    """.split()
)
ADDITIONS = frozenset({"add", "__add__", "__radd__", "__iadd__", "sub", "__sub__", "__isub__"})


# -- losses ----------------------------------------------------------------------------------------------------------

Loss = Callable[..., Tensor]


def _zeros(predictions: Tensor, _: Tensor) -> Tensor:
    return torch.zeros_like(predictions)


def _uniform_log_probs(predictions: Tensor, _: Tensor) -> Tensor:
    classes = predictions.shape[1] if predictions.dim() > 1 else predictions.shape[0]
    return torch.full_like(predictions, -math.log(classes))


def _half(predictions: Tensor, _: Tensor) -> Tensor:
    return torch.full_like(predictions, 0.5)


def _target_mean(predictions: Tensor, target: Tensor) -> Tensor:
    return torch.full_like(predictions, float(target.double().mean()))


UNINFORMATIVE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": _zeros,
    "binary_cross_entropy_with_logits": _zeros,
    "multilabel_soft_margin_loss": _zeros,
    "soft_margin_loss": _zeros,
    "multi_margin_loss": _zeros,
    "multilabel_margin_loss": _zeros,
    "nll_loss": _uniform_log_probs,
    "binary_cross_entropy": _half,
    "mse_loss": _target_mean,
    "l1_loss": _target_mean,
    "smooth_l1_loss": _target_mean,
    "huber_loss": _target_mean,
}
"""Loss function -> the uninformative predictions whose loss is the baseline."""
LOSSES = frozenset(UNINFORMATIVE) | frozenset(
    """
    kl_div poisson_nll_loss gaussian_nll_loss ctc_loss cosine_embedding_loss hinge_embedding_loss
    margin_ranking_loss triplet_margin_loss triplet_margin_with_distance_loss linear_cross_entropy
    """.split()
)
LOGIT_LOSSES = frozenset({"cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"})


def baseline(op: str, loss: Loss, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float | None:
    """Return the value of the same loss call on uninformative predictions, or None where none are defined.

    All other arguments (weights, ignored indices, smoothing, reduction) are passed on unchanged. No gradient is
    recorded and no random number drawn.
    """
    make = UNINFORMATIVE.get(op)
    predictions = args[0] if args else kwargs.get("input")
    target = args[1] if len(args) > 1 else kwargs.get("target")
    if make is None or not isinstance(predictions, Tensor) or not isinstance(target, Tensor):
        return None
    if predictions.numel() == 0 or target.numel() == 0:
        return None
    with torch.no_grad():
        flat = make(predictions.detach(), target)
        rest = {name: value for name, value in kwargs.items() if name != "input"}
        value = loss(flat, *args[1:], **rest)
        return float(value.mean())


def terms(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Return how many terms a loss call sums: 1 unless it is told to sum; ignored targets are not counted."""
    predictions = args[0] if args else kwargs.get("input")
    target = args[1] if len(args) > 1 else kwargs.get("target")
    if kwargs.get("reduction") != "sum" or not isinstance(target, Tensor) or not isinstance(predictions, Tensor):
        return 1
    if op in ("cross_entropy", "nll_loss") and not target.is_floating_point():
        return max(1, int((target != kwargs.get("ignore_index", -100)).sum()))
    classes = predictions.shape[1] if op == "cross_entropy" and predictions.dim() > 1 else 1
    return max(1, target.numel() // classes)
