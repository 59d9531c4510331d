"""The training loop: one step after another, each a function of the run's state alone.

A run is bit-identical to one that was stopped, saved and resumed at any step, on the same machine, torch and thread
count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from unstuck.lm.checkpoint import Checkpoint
from unstuck.lm.corpus import AnyCorpus
from unstuck.lm.errors import LmError
from unstuck.lm.examples import Batches
from unstuck.lm.model import CharModel, ModelConfig, build_model
from unstuck.lm.recipe import Recipe, build_optimizer, learning_rate
from unstuck.lm.streams import IGNORED

Targets = Int64[Tensor, " B"] | Int64[Tensor, "B L"] | Float[Tensor, "B V"]
Batch = tuple[Int64[Tensor, "B T"], Targets]
LossFn = Callable[[Tensor, Tensor], Tensor]


def loss_fn(logits: Float[Tensor, "B V"] | Float[Tensor, "B L V"], targets: Targets) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats per symbol.

    Targets are ids (B,) int64 or probabilities (B, V) float32 of logits (B, V), or ids (B, L) of logits (B, L, V), of
    which those that are IGNORED do not count.
    """
    if logits.dim() == 3:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    return F.cross_entropy(logits, targets)


class Run:
    """A model in training: the model, its optimizer, its batches and the number of steps done.

    Raises LmError where BatchNorm is to take its statistics from batches of one example.
    """

    def __init__(self, config: ModelConfig, recipe: Recipe, corpus: AnyCorpus) -> None:
        if config.norm == "batch" and recipe.batch_size < 2:
            raise LmError("batch size is 1, and BatchNorm needs at least 2 examples: raise it, or change the norm")
        self.config, self.recipe, self.corpus = config, recipe, corpus
        self.step = 0
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.model: CharModel = build_model(config, self.generator, recipe.norm_momentum)
        self.optimizer = build_optimizer(recipe, self.model.parameters())
        self.batches = Batches(corpus.train, recipe.batch_size, recipe.targets, config.symbols, self.generator)

    @classmethod
    def resume(cls, checkpoint: Checkpoint, corpus: AnyCorpus) -> Run:
        """The run as it was when `checkpoint` was saved; raises LmError if `corpus` is not of the same data."""
        checkpoint.require_same_data(corpus.words)
        run = cls(checkpoint.config, checkpoint.recipe, corpus)
        run.model = checkpoint.model()
        run.model.train()
        run.optimizer = build_optimizer(run.recipe, run.model.parameters())
        _load_optimizer(run, checkpoint.tensors)
        run.generator.set_state(checkpoint.tensors["generator"])
        run.step = checkpoint.step
        return run

    def checkpoint(self) -> Checkpoint:
        """A copy of the run's state."""
        tensors = {f"model.{name}": tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for kind, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{name}.{kind}"] = value.clone()
        tensors["generator"] = self.generator.get_state()
        words = self.corpus.words
        return Checkpoint(
            self.config, self.recipe, self.corpus.vocabulary, words.source, words.sha256, self.step, tensors
        )

    def advance(self, batch: Batch) -> float:
        """Do one step on `batch` and return its loss in nats; raises LmError, without updating, if it is not finite."""
        given, targets = batch
        with self._dropout():
            loss = loss_fn(self.model(given), targets)
        value = loss.item()
        if not math.isfinite(value):
            raise LmError(
                f"the loss is {value} at step {self.step}: lower --lr (now {self.recipe.lr:g}) or choose another --init"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        self.optimizer.step()
        self.step += 1
        return value

    @contextmanager
    def _dropout(self) -> Iterator[None]:
        """Dropout's own random numbers, a function of seed and step; torch's global generator is left as it was."""
        if not self.config.dropout:
            yield
            return
        with torch.random.fork_rng(devices=()):
            torch.manual_seed((self.recipe.seed * 0x9E3779B97F4A7C15 + self.step) % 2**63)
            yield


def _load_optimizer(run: Run, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for index, (name, _) in enumerate(run.model.named_parameters()):
        prefix = f"optimizer.{name}."
        held = {key.removeprefix(prefix): t.clone() for key, t in tensors.items() if key.startswith(prefix)}
        if held:
            state[index] = held
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": state, "param_groups": groups})


def train(
    run: Run,
    *,
    stop_at: int | None = None,
    on_first_batch: Callable[[CharModel, Batch, LossFn], object] | None = None,
    on_step: Callable[[int, float], object] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Train until the recipe's last step, or until `stop_at` steps are done, or until `should_stop()`.

    `on_first_batch(model, (contexts, targets), loss_fn)` is called before step 0 with the batch that step 0 uses;
    `on_step(steps done, loss)` after each step. Returns the losses of the steps done here, in nats.
    """
    run.model.train()
    end = run.recipe.steps if stop_at is None else min(stop_at, run.recipe.steps)
    losses = []
    while run.step < end and not should_stop():
        batch = run.batches.draw()
        if run.step == 0 and on_first_batch:
            on_first_batch(run.model, batch, loss_fn)
        loss = run.advance(batch)
        losses.append(loss)
        if on_step:
            on_step(run.step, loss)
    return losses
