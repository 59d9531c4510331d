"""Words drawn from a model, one symbol at a time, many words side by side.

Word i of a seed is the same however many are asked for: the words are drawn in blocks of fixed size, each by its own
random stream (https://numpy.org/doc/stable/reference/random/bit_generators/generated/numpy.random.SeedSequence.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor

from unstuck.lm.data import BOUNDARY, Vocabulary
from unstuck.lm.errors import LARGEST_SEED, LmError, require_positive, require_whole
from unstuck.lm.known import KnownWords
from unstuck.lm.model import CharModel
from unstuck.lm.norms import fold

BLOCKS = {
    "mlp": 1024,
    "gru": 256,
    "transformer": 256,
}  # words side by side: what a model does at once for 20 words, too
LONGEST = 100
PATIENCE = 100_000  # words drawn one after another, none of them new, before a search for new ones ends


@dataclass(frozen=True)
class Sampling:
    """How symbols are chosen; raises LmError for values out of range.

    The logits are divided by `temperature`; then only the `top_k` likeliest symbols stay (0: all). A word begins with
    `prefix` and is cut at `longest` characters.
    """

    temperature: float = 1.0
    top_k: int = 0
    prefix: str = ""
    longest: int = LONGEST

    def __post_init__(self) -> None:
        """Check every value."""
        require_positive("--temperature", self.temperature)
        require_whole("--top-k", self.top_k, 0, 2**31)
        require_whole("--max-length", self.longest, 1, 100_000)
        if len(self.prefix) >= self.longest:
            raise LmError(
                f"--prefix has {len(self.prefix)} characters and --max-length is {self.longest}: "
                "shorten the one or raise the other"
            )


def sample_words(
    model: CharModel,
    vocabulary: Vocabulary,
    n: int,
    seed: int = 0,
    sampling: Sampling | None = None,
    *,
    unlike: KnownWords | None = None,
    workers: int = 1,
) -> Iterator[str]:
    """Yield `n` words of at least one and at most `sampling.longest` characters.

    The same model, seed and sampling give the same words; the first k of them do not depend on n or on `workers`, the
    number of blocks that are drawn at once. With `unlike` a word comes once, and only if it is not among those known.
    The model is folded and evaluated with running statistics. Raises LmError for values out of range, for a prefix
    outside the vocabulary, and when PATIENCE words in a row are not new.
    """
    sampling = sampling or Sampling()
    require_whole("--count", n, 1, 10**9)
    require_whole("--seed", seed, 0, LARGEST_SEED)
    require_whole("--threads", workers, 1, 1024)
    vocabulary.require_typed(sampling.prefix, "--prefix")
    words = _all_words(fold(model), vocabulary, seed, sampling, workers, -(-n // BLOCKS[model.config.kind]))
    return islice(words if unlike is None else _new_words(words, vocabulary, unlike, _advice(sampling)), n)


def _all_words(
    model: CharModel, vocabulary: Vocabulary, seed: int, sampling: Sampling, workers: int, blocks: int
) -> Iterator[str]:
    """Words without end, block after block; `blocks` of them are enough where every word is wanted."""

    def draw(block: int) -> list[str]:
        random = np.random.default_rng([seed, block])
        return vocabulary.decode_rows(_sample_block(model, vocabulary, random, sampling).numpy())

    with ThreadPoolExecutor(workers) as pool:
        for first in count(0, workers):
            last = min(first + workers, blocks) if first < blocks else first + workers
            for words in pool.map(draw, range(first, last)):
                yield from words


def _advice(sampling: Sampling) -> str:
    """What to do where no more new words are found, by the options in force."""
    ways = ["ask for fewer words"]
    if sampling.top_k:
        ways.append(f"raise --top-k (now {sampling.top_k})")
    if sampling.top_k != 1:  # the likeliest symbol is the same at any temperature
        ways.append("raise --temperature")
    if sampling.prefix:
        ways.append("shorten --prefix")
    if sampling.longest != LONGEST:
        ways.append(f"raise --max-length (now {sampling.longest})")
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"


def _new_words(words: Iterator[str], vocabulary: Vocabulary, known: KnownWords, advice: str) -> Iterator[str]:
    seen: set[str] = set()
    in_vain = 0
    while True:
        candidates = list(islice(words, 1024))
        for word, old in zip(candidates, known.contains(vocabulary.encode(candidates)), strict=True):
            if not old and word not in seen:
                seen.add(word)
                in_vain = 0
                yield word
            in_vain += 1
        if in_vain > PATIENCE:
            raise LmError(
                f"only {len(seen):,} different new words were found, and then none in {PATIENCE:,} tries: {advice}"
            )


@torch.no_grad()
def _sample_block(model: CharModel, vocabulary: Vocabulary, random: np.random.Generator, sampling: Sampling) -> Tensor:
    """Ids of a block's words (B, longest) int64, 0 after a word's end."""
    block, context = BLOCKS[model.config.kind], model.config.context
    prefix = torch.from_numpy(vocabulary.encode([sampling.prefix])[:-1])
    ids = torch.zeros(block, context + sampling.longest, dtype=torch.int64)  # with the boundaries before a word
    ids[:, context : context + len(prefix)] = prefix
    alive = torch.arange(block)  # rows whose word goes on
    for place in range(len(prefix), sampling.longest):
        uniform = torch.from_numpy(random.random(block))[alive]
        logits = model.next_logits(ids[alive, place : place + context], min(place + 1, context))
        if place == 0:
            logits[:, BOUNDARY] = -torch.inf  # no word of the data is empty
        chosen = _choose(logits, uniform, sampling)
        ids[alive, context + place] = chosen
        alive = alive[chosen != BOUNDARY]
        if not len(alive):
            return ids[:, context : context + place + 1]
    return ids[:, context:]


def _choose(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """One id a row (B,) by inverting the cumulative distribution of logits (B, V) at uniform (B,)."""
    if 0 < sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < least, -torch.inf)
    logits = logits.double()  # a temperature may be too small for a float32, which would then be 0
    weights = ((logits - logits.amax(1, keepdim=True)) / sampling.temperature).exp_()  # (B, V), the largest is 1
    cumulative = weights.cumsum(1)  # (B, V)
    chosen = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)  # (B, 1)
    return chosen[:, 0].clamp(max=logits.shape[1] - 1)
