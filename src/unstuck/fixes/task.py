"""What a network is to learn and how: trains it for a while under watch, and puts everything back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from unstuck.capture.intervention import Intervention
from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.fixes.state import Generators, Snapshot

LossFunction = Callable[[Any, Any], Tensor]
Batch = tuple[Any, Any]

FROZEN = "the loss does not depend on any parameter that requires grad; is the whole model frozen?"
TRIAL_OVERHEAD = 0.5  # of a trial's time may go into watching: its losses and findings are all it is for


@dataclass(frozen=True)
class Training:
    """A stretch of training that was undone again: the session that watched it, and the objective at each step.

    `broken` says that it ended early, on an objective that is not finite, `one_batch` that all steps had the same data.
    """

    session: Session
    losses: tuple[float, ...]
    broken: bool
    one_batch: bool

    @property
    def loss(self) -> float:
        """The mean objective of the last tenth of the steps; infinite when the training broke."""
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return math.inf if self.broken or not last else sum(last) / len(last)


class Task:
    """A model, its batches and its loss `loss_fn(model(inputs), targets)`, a tensor with one element.

    `batches` is one pair (inputs, targets) or an iterable of pairs, of which at most `limit` are taken and kept; inputs
    that are a tuple or a dict are spread over the model's arguments. Without an `optimizer` the trials use Adam with
    torch's defaults. Random numbers that taking the batches draws, as a loader that shuffles does, are given back.
    Raises ValueError for batches that are not pairs, and for a model with lazy parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batch | Iterable[Batch],
        loss_fn: LossFunction,
        optimizer: Optimizer | None = None,
        *,
        pretrained: bool = False,
        limit: int = 1,
    ) -> None:
        self.model = model
        self.loss_fn = loss_fn
        self.optimizer = optimizer
        self.pretrained = pretrained
        generators = Generators(_generators_of(batches))
        try:
            self.batches = _batches(batches, limit)
        finally:
            generators.restore()

    @property
    def modules(self) -> list[nn.Module]:
        """The model, and the loss when that is a module too."""
        return [self.model, *([self.loss_fn] if isinstance(self.loss_fn, nn.Module) else [])]

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizer that was given, if any."""
        return () if self.optimizer is None else (self.optimizer,)

    def snapshot(self) -> Snapshot:
        """Return the state of everything that training changes."""
        return Snapshot(self.modules, self.optimizers)

    def forward(self, inputs: Any) -> Any:
        """Call the model."""
        if isinstance(inputs, dict):
            return self.model(**inputs)
        return self.model(*inputs) if isinstance(inputs, tuple | list) else self.model(inputs)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch; raises ValueError when it is not a scalar that depends on a parameter."""
        loss: Any = self.loss_fn(self.forward(_apart(batch[0])), _apart(batch[1]))
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError(f"loss_fn must return a tensor with one element, got {_describe(loss)}")
        if not loss.requires_grad:
            raise ValueError(FROZEN)
        return loss

    def first_pass(self, intervention: Intervention | None = None) -> Session:
        """Watch one forward and backward pass on the first batch and put everything back but what was mended."""
        session = Session(intervention=intervention)
        session.trace.facts.weights_loaded = self.pretrained
        before = self.snapshot()
        try:
            with torch.inference_mode(False), torch.enable_grad():
                for parameter in (p for module in self.modules for p in module.parameters()):
                    parameter.grad = None
                with session:
                    self.loss(self.batches[0]).backward()  # type: ignore[no-untyped-call]
        except BaseException:
            before.restore()
            raise
        before.restore(parameter_values=intervention is None)
        return session

    def _trainable(self) -> list[nn.Parameter]:
        parameters = [p for module in self.modules for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError(FROZEN)
        return parameters

    def train(self, steps: int) -> Training:
        """Train for `steps` steps under watch, over the batches again and again, and put everything back."""
        before, losses = self.snapshot(), []
        session = Session(Schedule(overhead=TRIAL_OVERHEAD))
        session.trace.facts.weights_loaded = self.pretrained
        try:
            with torch.inference_mode(False), torch.enable_grad():
                optimizer = self.optimizer or torch.optim.Adam(self._trainable())
                with session:
                    for step in range(steps):
                        optimizer.zero_grad()
                        loss = self.loss(self.batches[step % len(self.batches)])
                        losses.append(float(loss.detach()))
                        loss.backward()  # type: ignore[no-untyped-call]
                        if not math.isfinite(losses[-1]):
                            break
                        optimizer.step()
        finally:
            before.restore()
        broken = not all(map(math.isfinite, losses))
        return Training(session, tuple(losses), broken, len(self.batches) == 1)


def _batches(batches: Any, limit: int) -> Sequence[Batch]:
    """Return the pairs: a tuple of two is one; a list of two is one as well, unless both are pairs themselves."""
    one = _is_pair(batches) and (isinstance(batches, tuple) or not all(_is_pair(part) for part in batches))
    iterable = isinstance(batches, Iterable) and not isinstance(batches, Tensor)
    taken = [batches] if one or not iterable else list(islice(batches, limit))
    if not taken or not all(_is_pair(batch) for batch in taken):
        found = "nothing" if not taken else type(batches if one or not iterable else taken[0]).__name__
        raise ValueError(f"batch must be a pair (inputs, targets), or an iterable of such pairs, got {found}")
    return [(batch[0], batch[1]) for batch in taken]


def _generators_of(batches: Any) -> Iterator[torch.Generator]:
    """Yield the generators that a DataLoader, its sampler or its batch sampler draw from."""
    sampler, batch_sampler = (getattr(batches, name, None) for name in ("sampler", "batch_sampler"))
    holders = (batches, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    drawn_from = [getattr(holder, "generator", None) for holder in holders]
    yield from {id(g): g for g in drawn_from if isinstance(g, torch.Generator)}.values()


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _apart(value: Any) -> Any:
    """Return the batch with tensors that require grad replaced by detached ones, so that theirs stay as they are."""
    if isinstance(value, Tensor):
        value = value.clone() if value.is_inference() else value
        return value.detach().requires_grad_() if value.requires_grad else value
    if type(value) in (tuple, list):
        return type(value)(_apart(item) for item in value)
    return {key: _apart(item) for key, item in value.items()} if type(value) is dict else value


def _describe(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
