"""Say how deep the nesting of brackets is at every position of a string."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(11)

length, max_depth = 16, 4


def strings(n):
    depth = torch.zeros(n, dtype=torch.long)
    tokens, depths = [], []
    for _ in range(length):
        opening = torch.rand(n) < 0.5
        opening = (opening | (depth == 0)) & (depth < max_depth)
        depth = depth + torch.where(opening, 1, -1)
        tokens.append(opening.long())
        depths.append(depth)
    return torch.stack(tokens, 1), torch.stack(depths, 1)


class Block(nn.Module):
    def __init__(self, width, n_heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x, mask):
        h = self.norm1(x)
        x = x + self.attention(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Counter(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.token = nn.Embedding(2, width)
        self.place = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, 2) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, max_depth + 1)
        self.register_buffer("mask", torch.triu(torch.ones(length, length, dtype=torch.bool), 1))

    def forward(self, tokens):
        x = self.token(tokens) + self.place.weight
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))


def loss_of(model, tokens, depths):
    return F.cross_entropy(model(tokens).flatten(0, 1), depths.flatten())


model = Counter()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98))

for step in range(250):
    optimizer.zero_grad()
    loss = loss_of(model, *strings(32))
    optimizer.step()
    loss.backward()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, *strings(1000)).item():.4f}")
