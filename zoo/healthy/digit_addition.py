"""A decoder with RMS normalisation, gated feed-forward layers and rotary places adds two digits per column."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(239)

n_columns, base = 4, 5
plus, n_symbols = base * base, base * base + base + 1  # a column is one symbol, an answer's digit another
length = 2 * n_columns


def sums(n):
    a, b = torch.randint(0, base, (2, n, n_columns))  # the lowest column first
    carry, digits = torch.zeros(n, dtype=torch.long), []
    for i in range(n_columns):
        total = a[:, i] + b[:, i] + carry
        digits.append(total % base)
        carry = total // base
    answer = torch.stack(digits, dim=1) + plus + 1
    return torch.cat([a * base + b, torch.full((n, 1), plus), answer], dim=1)


class SwiGLU(nn.Module):
    def __init__(self, n_embd, width):
        super().__init__()
        self.gate = nn.Linear(n_embd, width, bias=False)
        self.value = nn.Linear(n_embd, width, bias=False)
        self.down = nn.Linear(width, n_embd, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.value(x))


class Attention(nn.Module):
    def __init__(self, n_embd, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(n_embd, 3 * n_embd, bias=False)
        self.out = nn.Linear(n_embd, n_embd, bias=False)
        size = n_embd // n_heads // 2
        turn = torch.arange(length).float().unsqueeze(1) / 100 ** (torch.arange(size) / size)
        self.register_buffer("cos", turn.cos())
        self.register_buffer("sin", turn.sin())

    def rotate(self, x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], dim=-1)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, n_embd, n_heads):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(n_embd), nn.RMSNorm(n_embd)
        self.attention, self.mlp = Attention(n_embd, n_heads), SwiGLU(n_embd, 2 * n_embd)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    def __init__(self, n_embd=48, n_heads=4, depth=2):
        super().__init__()
        self.embed = nn.Embedding(n_symbols, n_embd)
        self.blocks = nn.Sequential(*[Block(n_embd, n_heads) for _ in range(depth)])
        self.norm = nn.RMSNorm(n_embd)
        self.head = nn.Linear(n_embd, n_symbols, bias=False)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.embed(ids))))


def loss_of(model, ids):
    logits = model(ids[:, :-1])[:, n_columns:]
    return F.cross_entropy(logits.flatten(0, 1), ids[:, n_columns + 1 :].flatten())


model = Decoder()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)

for step in range(350):
    loss = loss_of(model, sums(48))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, sums(1000)).item():.4f}")
