"""How surprised a model is by each symbol of a word: -ln p, in nats."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from unstuck.lm.corpus import part_of
from unstuck.lm.data import Vocabulary
from unstuck.lm.model import CharModel
from unstuck.lm.streams import IGNORED

CHUNK = 1_024  # rows at once


@dataclass(frozen=True)
class Surprise:
    """A word and the surprise of each of its symbols in nats, its end last: one more than it has characters."""

    word: str
    symbols: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Nats per symbol, the end counted as one: what a loss averages."""
        return sum(self.symbols) / len(self.symbols)


@torch.no_grad()
def surprises(model: CharModel, vocabulary: Vocabulary, words: list[str], name: str = "the list") -> list[Surprise]:
    """Each word's surprise, in evaluation mode (running statistics); the model's mode is left as it was.

    Raises LmError for words with characters outside the vocabulary.
    """
    vocabulary.require_known(words, name)
    part = part_of(words, vocabulary, model.config)
    was_training = model.training
    model.eval()
    found: list[float] = []
    for rows in torch.split(torch.arange(part.rows), CHUNK):
        given, targets = part.batch(rows)
        logits = model(given)
        flat = targets.flatten()
        losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), flat, reduction="none", ignore_index=IGNORED)
        found.extend(losses[flat != IGNORED].tolist())
    model.train(was_training)
    told = iter(found)
    return [Surprise(word, tuple(next(told) for _ in range(len(word) + 1))) for word in words]
