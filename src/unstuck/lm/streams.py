"""Examples read from a stream of tokens as they are needed, so that the stream may lie on the disk.

A stream is the ids of many words end to end, each closed by the boundary. `Windows` gives an `mlp` what
`examples.Examples` holds, `Sequences` gives a `gru` or `transformer` whole words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor

from unstuck.lm.errors import require_whole
from unstuck.lm.examples import LONGEST_CONTEXT

Tokens = npt.NDArray[np.integer[Any]]
IGNORED = -1  # the target where there is nothing to predict: after a word's end, and what an earlier row predicts


class Windows:
    """The windows of a stream (N,): example i is the `context` symbols before token i in its word, and token i."""

    def __init__(self, tokens: Tokens, context: int) -> None:
        require_whole("context", context, 1, LONGEST_CONTEXT)
        self.tokens, self.context = tokens, context

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.tokens)

    @property
    def rows(self) -> int:
        """Number of rows to draw from: the examples."""
        return len(self.tokens)

    def batch(self, rows: Int64[Tensor, " B"]) -> tuple[Int64[Tensor, "B T"], Int64[Tensor, " B"]]:
        """Contexts (B, T) and the ids that follow them (B,), both int64."""
        at = rows.numpy()
        return self._contexts(at), torch.from_numpy(self.tokens[at].astype(np.int64))

    @property
    def contexts(self) -> Windows:
        """The contexts alone, to be sliced."""
        return self

    def __getitem__(self, part: slice) -> Int64[Tensor, "B T"]:
        """The contexts of some examples in a row."""
        return self._contexts(np.arange(*part.indices(len(self))))

    def _contexts(self, at: npt.NDArray[np.int64]) -> Tensor:
        before = at[:, None] - np.arange(self.context, 0, -1)  # (B, T)
        window = self.tokens[before.clip(min=0)].astype(np.int64)
        window[before < 0] = 0
        in_word = np.logical_and.accumulate(window[:, ::-1] != 0, axis=1)[:, ::-1]
        return torch.from_numpy(window * in_word)


class Sequences:
    """The words of a stream as rows: symbols with the boundary in front, and at each place the symbol that follows.

    A word that is longer than the context goes over several rows, each half a context on from the one before it: a
    symbol is predicted once, from at least half a context of symbols (where the word has them) and at most a whole one.
    """

    def __init__(self, tokens: Tokens, context: int, ends: npt.NDArray[np.int64] | None = None) -> None:
        require_whole("context", context, 1, LONGEST_CONTEXT)
        self.tokens, self.context = tokens, context
        if ends is None:
            ends = np.flatnonzero(tokens == 0) + 1  # one past each word's boundary
        lengths = np.diff(ends, prepend=0)
        stride = max(context // 2, 1)
        pieces = 1 + np.maximum(-((context - lengths) // stride), 0)  # 1 + ceil((length - context) / stride)
        word = np.repeat(np.arange(len(ends)), pieces)
        piece = np.arange(len(word)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        self.starts = (ends - lengths)[word] + piece * stride  # (R,) the token that a row's first place predicts
        self.lengths = (lengths[word] - piece * stride).clip(max=context).astype(np.int32)
        self.known = np.where(piece > 0, context - stride, 0).astype(np.int32)  # places that an earlier row predicts

    def __len__(self) -> int:
        """Number of symbols that are predicted."""
        return len(self.tokens)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.starts)

    def batch(self, rows: Int64[Tensor, " B"]) -> tuple[Int64[Tensor, "B L"], Int64[Tensor, "B L"]]:
        """Symbols and the symbols that follow them, both (B, L) int64, L the longest row's length.

        Behind a row's end the symbols are the boundary and the targets IGNORED.
        """
        at = rows.numpy()
        lengths = self.lengths[at][:, None]
        place = np.arange(lengths.max(initial=1))  # (L,)
        inside = place < lengths  # (B, L)
        follows = np.where(inside, self.starts[at][:, None] + place, 0)
        # the token before a word is the boundary: the last token of all before the first word
        symbols = np.where(inside, self.tokens[follows - 1], 0).astype(np.int64)
        wanted = inside & (place >= self.known[at][:, None])
        targets = np.where(wanted, self.tokens[follows].astype(np.int64), IGNORED)
        return torch.from_numpy(symbols), torch.from_numpy(targets)
