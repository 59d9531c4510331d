"""recalibrate-running-statistics: measure anew what batch normalisation evaluates with.

After Wu and Johnson 2021, Rethinking "Batch" in BatchNorm, section 3, https://arxiv.org/abs/2105.07576.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from unstuck.findings import Finding
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.fixes.state import Generators

KEPT_BATCHES = 16  # of the training, in flight; the paper's figure 2 sees no gain beyond some 1,000 samples


class _Moments:
    """Count, sum and sum of squares of each unit, in float64, about the running mean it had."""

    def __init__(self, norm: _BatchNorm) -> None:
        mean = norm.running_mean
        if mean is None:
            raise ValueError("the norm keeps no running statistics")
        self.norm = norm
        self._centre = mean.detach().to(torch.float64, copy=True)
        self._count = 0
        self._total = torch.zeros_like(self._centre)
        self._squares = torch.zeros_like(self._centre)

    def add(self, _norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = (args[0] if args else kwargs["input"]).detach().double()
        others = [dim for dim in range(x.dim()) if dim != 1]
        x = x - self._centre.reshape(-1, *[1] * (x.dim() - 2))
        self._count += x.numel() // len(self._centre)
        self._total += x.sum(others)
        self._squares += (x * x).sum(others)

    def write(self) -> None:
        """Set mean and unbiased variance, as PyTorch keeps it (divisor n - 1)."""
        if self._count < 2 or self.norm.running_mean is None or self.norm.running_var is None:
            return
        mean = self._total / self._count
        variance = (self._squares / self._count - mean * mean).clamp_(min=0) * (self._count / (self._count - 1))
        self.norm.running_mean.copy_(mean + self._centre)
        self.norm.running_var.copy_(variance)


def norms_of(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch normalisations that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Any], forward: Callable[[Any], Any] | None = None) -> int:
    """Set the running mean and variance of each batch normalisation to those over all of `batches`, in place.

    `batches` are the model's inputs (tuples and dicts are spread over its arguments, unless `forward` makes the call).
    One pass: norms by the statistics of each batch, as in training, everything else (dropout) as in evaluation; the
    moments of the batches are pooled in float64. Modes and random number generators are left as they were, and so is
    all else, also when the model raises. Returns the number of norms. Raises ValueError when `batches` is empty, and
    when it is a tensor, whose rows would each be taken for a batch.
    """
    if isinstance(batches, Tensor):
        shape = tuple(batches.shape)
        raise ValueError(
            f"batches must be an iterable of batches, got a tensor of shape {shape}; one batch is [inputs]"
        )
    norms = norms_of(model)
    call = forward or (lambda inputs: _call(model, inputs))
    measured = [_Moments(norm) for norm in norms]
    seen = 0
    with _in_calibration_mode(model, norms):
        hooks = [moments.norm.register_forward_pre_hook(moments.add, with_kwargs=True) for moments in measured]
        try:
            for inputs in batches:
                call(inputs)
                seen += 1
        finally:
            for hook in hooks:
                hook.remove()
    if not seen:
        raise ValueError("recalibration needs at least one batch of inputs")
    for moments in measured:
        moments.write()
    return len(norms)


@contextmanager
def _in_calibration_mode(model: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    kept = [
        [(b, b.clone()) for b in (n.running_mean, n.running_var, n.num_batches_tracked) if b is not None] for n in norms
    ]
    generators = Generators()
    try:
        model.eval()
        for norm in norms:
            norm.train()
        yield
    finally:
        generators.restore()
        for module, training in modes:
            module.training = training
        for buffer, value in (pair for pairs in kept for pair in pairs):
            buffer.copy_(value)


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


class RecalibrateRunningStatistics(Remedy):
    """Measure the running statistics of batch normalisation anew, over data, before they are used.

    ## What it does
    Sets the running mean and variance of every batch normalisation to the moments of its inputs, pooled over the given
    batches. While a script trains: keeps the last 16 batches that the network is called on, and recalibrates a network
    of the same class when it is called in evaluation mode without gradients, once for each step of training. Neither
    training nor weights are touched.

    ## When it must not be used
    Where the running statistics belong to other data on purpose (frozen ones in fine-tuning); where batches come from
    sources that are normalised apart, since one set of statistics cannot stand for several.

    ## References
    Wu & Johnson 2021, https://arxiv.org/abs/2105.07576;
    https://docs.pytorch.org/docs/stable/generated/torch.optim.swa_utils.update_bn.html
    """

    name = "recalibrate-running-statistics"
    applicability = Applicability.SAFE
    in_flight = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Recalibrate now where data is at hand; in flight, before each evaluation from now on."""
        models = [model for model in patient.models if norms_of(model)]
        if not models:
            raise Withheld("no module with batch normalisation is known")
        if patient.forward is None:
            patient.while_watched(BeforeEvaluation(models).install)
        else:
            for model in models:
                recalibrate(model, [inputs for inputs, _ in patient.batches], patient.forward)
        return [
            self.fix(
                finding,
                statistic="divergence of the running statistics from the batches'",
                snippet="torch.optim.swa_utils.update_bn(loader, model)  # before each evaluation",
                step=patient.step,
            )
        ]


class BeforeEvaluation:
    """Recalibrates networks of the classes of `models` when they are called to be evaluated.

    A hook on every module call, made only once the fault has been found.
    """

    def __init__(self, models: Iterable[nn.Module]) -> None:
        self._kinds = {type(model) for model in models}
        self._batches: deque[Any] = deque(maxlen=KEPT_BATCHES)
        self._trained = 0  # calls in training
        self._done: dict[int, int] = {}  # network's id -> the same, at its last recalibration
        self._busy = False

    def install(self) -> Callable[[], None]:
        """Begin; returns what ends it."""
        return register_module_forward_pre_hook(self._called).remove

    def _called(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._busy or type(module) not in self._kinds or not norms_of(module):
            return
        if module.training and torch.is_grad_enabled():
            if args:  # a hook on every module is not told of keyword arguments
                self._batches.append(tuple(arg.detach() if isinstance(arg, Tensor) else arg for arg in args))
            self._trained += 1
        elif module.training or torch.is_grad_enabled() or self._done.get(id(module)) == self._trained:
            return
        elif self._batches:
            self._done[id(module)] = self._trained
            self._busy = True
            try:
                with torch._C.DisableTorchFunction():
                    recalibrate(module, list(self._batches))
            except Exception as error:  # noqa: BLE001  (the user's evaluation goes on; nothing was changed)
                self._fail(module, error)
            finally:
                self._busy = False

    def _fail(self, module: nn.Module, error: Exception) -> None:
        self._kinds.discard(type(module))
        print(  # noqa: T201
            f"unstuck: {RecalibrateRunningStatistics.name}: {type(module).__name__} cannot be called on a batch again, "
            f"so its running statistics stay as they are ({type(error).__name__}: {error})",
            file=sys.stderr,
        )
