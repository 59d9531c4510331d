"""Find in a harbour's list of ships and berths the berth of the ship that is asked for last."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(223)

n_ships, n_berths, length, width = 24, 8, 16, 128


def lists(n):
    ships = torch.rand(n, n_ships).argsort(1)[:, :length]
    berths = torch.randint(0, n_berths, (n, length))
    asked = torch.randint(0, length, (n,))
    rows = torch.arange(n)
    ships = torch.cat([ships, ships[rows, asked, None]], 1)
    target = berths[rows, asked]
    return ships, torch.cat([berths, torch.full((n, 1), n_berths)], 1), target


class Lookup(nn.Module):
    def __init__(self, n_heads=2):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=1.4 * width**-0.5)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = (f(x).view(n, t, self.n_heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5)
        return self.out(mixed.transpose(1, 2).reshape(n, t, width))


class Harbour(nn.Module):
    def __init__(self):
        super().__init__()
        self.ship = nn.Embedding(n_ships, width)
        self.berth = nn.Embedding(n_berths + 1, width)
        self.norm1 = nn.LayerNorm(width)
        self.lookup = Lookup()
        self.norm2 = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_berths)

    def forward(self, ships, berths):
        x = self.ship(ships) + self.berth(berths)
        x = x + self.lookup(self.norm1(x))
        return self.head(self.norm2(x[:, -1]))


model = Harbour()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
for step in range(300):
    ships, berths, target = lists(64)
    loss = F.cross_entropy(model(ships, berths), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    ships, berths, target = lists(2000)
    print(f"final_loss {F.cross_entropy(model(ships, berths), target).item():.4f}")
