"""Predict the next letter of strings in which each letter follows from the two before it."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(414)

n_letters, length, dim, n_heads = 8, 12, 48, 4
follows = torch.randint(0, n_letters, (n_letters, n_letters))


def strings(n):
    ids = torch.randint(0, n_letters, (n, 2))
    for _ in range(length - 1):
        chosen = torch.where(torch.rand(n) < 0.9, follows[ids[:, -2], ids[:, -1]], torch.randint(0, n_letters, (n,)))
        ids = torch.cat([ids, chosen[:, None]], dim=1)
    return ids


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand = nn.Linear(dim, 4 * dim)
        self.contract = nn.Linear(4 * dim, dim)
        nn.init.normal_(self.contract.weight, std=0.5 * (4 * dim) ** -0.5)

    def forward(self, x):
        return self.contract(self.expand(x))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, n_heads, batch_first=True)
        self.register_buffer("later", torch.ones(length, length, dtype=torch.bool).triu(1))

    def forward(self, x):
        return self.attention(x, x, x, attn_mask=self.later, need_weights=False)[0]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters = nn.Embedding(n_letters, dim)
        self.places = nn.Embedding(length, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.attend, self.feed = Attention(), FeedForward()
        self.head = nn.Linear(dim, n_letters)

    def forward(self, ids):
        x = self.letters(ids) + self.places.weight
        x = x + self.attend(self.norms[0](x))
        x = x + self.feed(self.norms[1](x))
        return self.head(self.norms[2](x))


def loss_of(model, ids):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
train, test = strings(8000), strings(1000)
for step in range(350):
    loss = loss_of(model, train[torch.randint(0, len(train), (32,))])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, test).item():.4f}")
