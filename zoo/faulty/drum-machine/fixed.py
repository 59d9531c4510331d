"""A tiny transformer that continues the patterns of a drum machine."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class GPTConfig:
    vocab_size: int = 12
    block_size: int = 24
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 48


class SelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = SelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(), nn.Linear(4 * config.n_embd, config.n_embd)
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.apply(self._init_weights)
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.n_layer))

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.05)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1)))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def make_patterns(n, config, length):
    """A bar of random hits, repeated with now and then another hit in between."""
    period = torch.randint(3, 6, (n, 1))
    bar = torch.randint(0, config.vocab_size, (n, 6))
    pattern = bar.gather(1, torch.arange(length) % period)
    return torch.where(torch.rand(n, length) < 0.05, torch.randint(0, config.vocab_size, (n, length)), pattern)


torch.manual_seed(1337)
config = GPTConfig()
train_data = make_patterns(4000, config, config.block_size + 1)
val_data = make_patterns(400, config, config.block_size + 1)
model = GPT(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.01)

for it in range(350):
    for group in optimizer.param_groups:
        group["lr"] = 2e-3 * min(1.0, (it + 1) / 40)
    batch = train_data[torch.randint(len(train_data), (32,))]
    logits = model(batch[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, config.vocab_size), batch[:, 1:].reshape(-1))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if it % 50 == 0:
        print(f"iter {it}: loss {loss.item():.4f}")

# the next hit after each beginning of a pattern, as when the machine plays on
model.eval()
total = 0.0
with torch.no_grad():
    for t in range(12, config.block_size + 1):
        total += F.cross_entropy(model(val_data[:, :t])[:, -1], val_data[:, t]).item()
print(f"final_loss {total / (config.block_size - 11):.4f}")
