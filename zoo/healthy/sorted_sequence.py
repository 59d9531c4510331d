"""A tiny causal transformer that reads a few digits and writes them sorted."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(104)

n_digits, length, n_embd, n_heads = 8, 5, 48, 4
start = n_digits  # the symbol between the question and the answer
block_size = 2 * length


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1 = nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.proj = nn.Linear(n_embd, n_embd)
        self.ln2 = nn.LayerNorm(n_embd)
        self.up = nn.Linear(n_embd, 4 * n_embd)
        self.down = nn.Linear(4 * n_embd, n_embd)

    def attend(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=2)
        q, k, v = (t.view(B, T, n_heads, C // n_heads).transpose(1, 2) for t in (q, k, v))
        weights = q @ k.transpose(-2, -1) / (C // n_heads) ** 0.5
        future = torch.ones(T, T, dtype=torch.bool).triu(1)
        weights = F.softmax(weights.masked_fill(future, float("-inf")), dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(B, T, C))

    def forward(self, x):
        x = x + self.attend(self.ln1(x))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Transformer(nn.Module):
    def __init__(self, depth=2):
        super().__init__()
        self.tokens = nn.Embedding(n_digits + 1, n_embd)
        self.positions = nn.Embedding(block_size, n_embd)
        self.blocks = nn.Sequential(*[Block() for _ in range(depth)])
        self.norm = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, n_digits, bias=False)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def batch(n):
    digits = torch.randint(0, n_digits, (n, length))
    answer = digits.sort(dim=1).values
    ids = torch.cat([digits, torch.full((n, 1), start), answer[:, :-1]], dim=1)
    target = torch.cat([torch.full((n, length), -1), answer], dim=1)
    return ids, target


def loss_of(model, ids, target):
    return F.cross_entropy(model(ids).flatten(0, 1), target.flatten(), ignore_index=-1)


model = Transformer()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

for step in range(300):
    loss = loss_of(model, *batch(32))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, *batch(500)).item():.4f}")
