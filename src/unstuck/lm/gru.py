"""The gated recurrent unit as a character-level model: a state that is rewritten symbol by symbol.

Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder (https://arxiv.org/abs/1406.1078), as
`torch.nn.GRU` has it: r and z are sigmoids of the input and the state, n = tanh(W x + r · (U h)), h' = (1 - z) n + z h.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from unstuck.lm.config import ModelConfig


class CharGRU(nn.Module):
    """Embedding, `depth` recurrent layers, logits at every place; dropout on what goes in and out of the layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.symbols, config.embedding)
        between = config.dropout if config.depth > 1 else 0.0
        self.hidden = nn.GRU(config.embedding, config.hidden, config.depth, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, config.symbols)

    def forward(self, symbols: Int64[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits of the symbol that follows each place, from the symbols up to that place."""
        vectors = self.dropout(self.embedding(symbols))  # (B, L, C)
        states, _ = self.hidden(vectors)  # (B, L, H)
        logits: Tensor = self.output(self.dropout(states))  # (B, L, V)
        return logits

    def next_logits(self, window: Int64[Tensor, "B T"], filled: int) -> Float[Tensor, "B V"]:
        """Logits of the symbol after the last `filled` symbols of a window."""
        logits: Tensor = self(window[:, -filled:])[:, -1]
        return logits

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Embeddings N(0, 1), every other weight N(0, 1/fan_in), output weights 0.01 of that, biases 0."""
        nn.init.normal_(self.embedding.weight, generator=generator)
        for name, parameter in self.hidden.named_parameters():
            if name.startswith("weight"):
                nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]), generator=generator)
            else:
                parameter.zero_()
        nn.init.normal_(self.output.weight, std=0.01 / math.sqrt(self.config.hidden), generator=generator)
        self.output.bias.zero_()
