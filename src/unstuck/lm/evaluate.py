"""The mean loss over a set of examples, in nats per symbol."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from unstuck.lm.errors import LmError
from unstuck.lm.examples import Part
from unstuck.lm.model import CharModel
from unstuck.lm.streams import IGNORED

CHUNK = 16_384  # places at once
BN_EVAL = ("running", "recalibrated", "batch")


def evaluate(model: CharModel, part: Part) -> float:
    """Mean cross-entropy in nats, in evaluation mode (running statistics); the model's mode is left as it was.

    Raises LmError when there are no examples.
    """
    return evaluate_rows(model, part, torch.arange(part.rows))[0]


@torch.no_grad()
def evaluate_rows(model: CharModel, part: Part, rows: torch.Tensor) -> tuple[float, int]:
    """Mean cross-entropy in nats over the rows (R,) int64, and how many symbols they predict; else as `evaluate`."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for chunk in torch.split(rows, CHUNK if model.config.kind == "mlp" else max(CHUNK // model.config.context, 1)):
        given, targets = part.batch(chunk)
        logits = model(given)
        flat = logits.reshape(-1, logits.shape[-1])
        total += float(F.cross_entropy(flat, targets.flatten(), reduction="sum", ignore_index=IGNORED))
        count += int((targets != IGNORED).sum())
    model.train(was_training)
    if not count:
        raise LmError("there are no examples to evaluate on: choose another part, or give more words")
    return total / count, count


def spread_rows(part: Part, most: int) -> torch.Tensor:
    """At most `most` rows, evenly over the part: all of them where there are no more."""
    return torch.arange(part.rows) if part.rows <= most else torch.arange(most) * part.rows // most


@torch.no_grad()
def evaluate_by_batch(model: CharModel, part: Part, batch_size: int, seed: int = 0) -> float:
    """Mean cross-entropy in nats where BatchNorm takes each batch's own mean and variance, as in training.

    The examples are shuffled by `seed` into batches of `batch_size` (a last one of fewer joins the one before it), so
    the result depends on which examples meet. Neither the running statistics nor the mode are changed. Raises LmError
    for a model without BatchNorm, and where there are fewer than two examples.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    if not norms:
        raise LmError(
            f"--bn-eval batch needs a model with BatchNorm, and this one has norm {model.config.norm}: leave it out"
        )
    if part.rows < 2:
        raise LmError("batch statistics need at least 2 examples: give more words, or use --bn-eval running")
    order = torch.randperm(part.rows, generator=torch.Generator().manual_seed(seed))
    batches = list(torch.split(order, max(batch_size, 2)))
    if len(batches) > 1 and len(batches[-1]) < batch_size:
        batches[-2:] = [torch.cat(batches[-2:])]
    was_training, state = model.training, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.eval()
    for norm in norms:
        norm.train()
    total = 0.0
    for batch in batches:
        contexts, targets = part.batch(batch)
        total += float(F.cross_entropy(model(contexts), targets, reduction="sum"))
    model.load_state_dict(state)
    model.train(was_training)
    return total / len(part)
