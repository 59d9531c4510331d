"""The transformer as a character-level model: every place looks back at the places before it.

Vaswani et al. 2017, Attention Is All You Need (https://arxiv.org/abs/1706.03762), with the normalisation before each
sub-layer (Xiong et al. 2020, https://arxiv.org/abs/2002.04745), so that the residual stream itself is never rescaled.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from unstuck.lm.activations import activation
from unstuck.lm.config import ModelConfig


class Attention(nn.Module):
    """Causal self-attention with several heads: softmax(q kᵀ / √d) v over the places up to each."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.queries_keys_values = nn.Linear(config.embedding, 3 * config.embedding)
        self.output = nn.Linear(config.embedding, config.embedding)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        """What each place takes from the places before it and from itself."""
        b, length, c = x.shape
        parts = self.queries_keys_values(x).view(b, length, 3, self.heads, c // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, L, C / heads)
        taken = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed: Tensor = self.output(taken.transpose(1, 2).reshape(b, length, c))
        return mixed


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.embedding)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.embedding)
        self.up = nn.Linear(config.embedding, config.hidden)
        self.activation = activation(config.activation)
        self.down = nn.Linear(config.hidden, config.embedding)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        """The residual stream after this block."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        inner = self.activation(self.up(self.feed_forward_norm(x)))  # (B, L, H)
        out: Tensor = x + self.dropout(self.down(inner))
        return out


class CharTransformer(nn.Module):
    """Embeddings of symbol and place, `depth` blocks, a last norm, logits at every place."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.symbols, config.embedding)
        self.place = nn.Embedding(config.context, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.embedding)
        self.output = nn.Linear(config.embedding, config.symbols)

    def forward(self, symbols: Int64[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits of the symbol that follows each place, from the symbols up to that place; L is at most `context`."""
        places = torch.arange(symbols.shape[1], device=symbols.device)
        x = self.dropout(self.embedding(symbols) + self.place(places))  # (B, L, C)
        for block in self.blocks:
            x = block(x)  # (B, L, C)
        logits: Tensor = self.output(self.norm(x))  # (B, L, V)
        return logits

    def next_logits(self, window: Int64[Tensor, "B T"], filled: int) -> Float[Tensor, "B V"]:
        """Logits of the symbol after the last `filled` symbols of a window."""
        logits: Tensor = self(window[:, -filled:])[:, -1]
        return logits

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Embeddings N(0, 1), other weights N(0, 1/fan_in), output weights 0.01 of that, biases 0, norms 1 and 0.

        The two layers of a block that write to the residual stream start at 1/√(2 · depth) of their scale, so that its
        variance does not grow with depth (Radford et al. 2019, section 2.3).
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, generator=generator)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                writes = name.endswith(("attention.output", "down"))
                scale = 1 / math.sqrt(2 * self.config.depth) if writes else 0.01 if module is self.output else 1.0
                nn.init.normal_(module.weight, std=scale / math.sqrt(module.in_features), generator=generator)
                module.bias.zero_()
