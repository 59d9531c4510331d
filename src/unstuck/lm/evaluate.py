"""The mean loss over a set of examples, in nats per symbol."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from unstuck.lm.errors import LmError
from unstuck.lm.examples import Examples
from unstuck.lm.model import CharMLP

CHUNK = 16_384


@torch.no_grad()
def evaluate(model: CharMLP, examples: Examples) -> float:
    """Mean cross-entropy in nats, in evaluation mode (running statistics); the model's mode is left as it was.

    Raises LmError when there are no examples.
    """
    if not len(examples):
        raise LmError("there are no examples to evaluate on: choose another part, or give more words")
    was_training = model.training
    model.eval()
    total = 0.0
    chunks = zip(torch.split(examples.contexts, CHUNK), torch.split(examples.targets, CHUNK), strict=True)
    for contexts, targets in chunks:
        total += float(F.cross_entropy(model(contexts), targets, reduction="sum"))
    model.train(was_training)
    return total / len(examples)
