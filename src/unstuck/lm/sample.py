"""Words drawn from a model, one symbol at a time, many words side by side.

Word i of a seed is the same however many are asked for: the words are drawn in blocks of fixed size, each by its own
random stream (https://numpy.org/doc/stable/reference/random/bit_generators/generated/numpy.random.SeedSequence.html).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unstuck.lm.data import BOUNDARY, Vocabulary
from unstuck.lm.errors import LARGEST_SEED, require_whole
from unstuck.lm.model import CharMLP
from unstuck.lm.norms import fold

BLOCK = 256
LONGEST = 100


def sample_words(model: CharMLP, vocabulary: Vocabulary, n: int, seed: int = 0, longest: int = LONGEST) -> list[str]:
    """`n` words of at least one and at most `longest` characters (a word that reaches `longest` is cut there).

    The same model, seed and longest give the same words; the first k of them do not depend on n. The model is folded
    and evaluated with running statistics. Raises LmError for values out of range.
    """
    require_whole("number of words", n, 1, 10**9)
    require_whole("seed", seed, 0, LARGEST_SEED)
    require_whole("max length", longest, 1, 100_000)
    folded = fold(model)
    words: list[str] = []
    for block in range(-(-n // BLOCK)):
        ids = _sample_block(folded, np.random.default_rng([seed, block]), longest)
        words.extend(vocabulary.decode(row) for row in ids[: n - len(words)].tolist())
    return words


@torch.no_grad()
def _sample_block(model: CharMLP, random: np.random.Generator, longest: int) -> Tensor:
    """Ids of BLOCK words (BLOCK, longest) int64, 0 after a word's end."""
    ids = torch.zeros(BLOCK, longest, dtype=torch.int64)
    contexts = torch.zeros(BLOCK, model.config.context, dtype=torch.int64)
    alive = torch.arange(BLOCK)  # rows whose word goes on
    for place in range(longest):
        uniform = torch.from_numpy(random.random(BLOCK))[alive]
        chosen = _choose(model(contexts[alive]), uniform, may_end=place > 0)
        ids[alive, place] = chosen
        contexts[alive] = torch.cat([contexts[alive, 1:], chosen[:, None]], dim=1)
        alive = alive[chosen != BOUNDARY]
        if not len(alive):
            break
    return ids


def _choose(logits: Tensor, uniform: Tensor, *, may_end: bool) -> Tensor:
    """One id a row (B,) by inverting the cumulative distribution of logits (B, V) at uniform (B,)."""
    probabilities = logits.double().softmax(1)
    if not may_end:  # no word of the data is empty
        probabilities[:, BOUNDARY] = 0
    cumulative = probabilities.cumsum(1)  # (B, V), up to rounding and the boundary's share 1 at the end
    chosen = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)  # (B, 1)
    return chosen[:, 0].clamp(max=logits.shape[1] - 1)
