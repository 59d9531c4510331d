"""Whether a word is among millions of others, by 64-bit fingerprints: eight bytes a word.

A fingerprint is the sum over a word's places of a random number of its symbol times a power of an odd one, modulo 2^64
(Carter & Wegman 1979, https://doi.org/10.1016/0022-0000(79)90044-8). Two words share one by accident with a
probability of about 2^-64 times the number of words known; such a word would be taken for known.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from unstuck.lm.streams import Tokens

CHUNK = 2**22  # tokens at once
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers never become 0
_Prints = npt.NDArray[np.uint64]


class KnownWords:
    """The distinct words of a token stream (N,), each closed by the boundary; `symbols` is the vocabulary's size."""

    def __init__(self, tokens: Tokens, symbols: int) -> None:
        self.table = np.random.default_rng(0).integers(2**64, size=symbols, dtype=np.uint64)
        self.prints = np.unique(np.concatenate([*self._chunks(tokens), np.zeros(0, dtype=np.uint64)]))

    def contains(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        """For each word of a stream whether it is known."""
        wanted = self._prints_of(np.asarray(tokens))
        place = np.searchsorted(self.prints, wanted).clip(max=max(len(self.prints) - 1, 0))
        return self.prints[place] == wanted if len(self.prints) else np.zeros(len(wanted), dtype=np.bool_)

    def _chunks(self, tokens: Tokens) -> Iterator[_Prints]:
        first = 0
        while first < len(tokens):
            size = CHUNK
            while not (ends := np.flatnonzero(tokens[first : first + size] == 0)).size:
                size *= 2  # one word is longer than a chunk
            last = first + int(ends[-1]) + 1
            yield self._prints_of(np.asarray(tokens[first:last]))
            first = last

    def _prints_of(self, tokens: Tokens) -> _Prints:
        ends = np.flatnonzero(tokens == 0)
        lengths = np.diff(ends, prepend=-1)
        starts = ends + 1 - lengths
        place = np.arange(len(tokens)) - np.repeat(starts, lengths)
        powers = np.full(int(lengths.max(initial=1)), _FACTOR).cumprod(dtype=np.uint64)
        return np.add.reduceat(self.table[tokens] * powers[place], starts) if len(starts) else powers[:0]
