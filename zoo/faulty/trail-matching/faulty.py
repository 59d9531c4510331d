"""Learn an embedding in which trails of the same walker lie close together."""

import torch
from torch import nn

torch.manual_seed(23)

n_walkers, dim = 40, 16
habits = torch.randn(n_walkers, 6)
mixing = torch.randn(6, dim) / 6**0.5


def trails(n):
    walker = torch.randint(0, n_walkers, (n,))
    return torch.tanh(habits[walker] @ mixing + 0.4 * torch.randn(n, dim)) + 0.4 * torch.randn(n, dim), walker


def pairwise_distance(a):
    squared = (a[:, None] - a[None, :]).square().sum(-1)
    return squared.sqrt()


def margin_loss(embedded, walker, margin=2.0):
    distance = pairwise_distance(embedded)
    same = walker[:, None] == walker[None, :]
    other = ~same
    same = same & ~torch.eye(len(walker), dtype=torch.bool)
    pull = (distance * same).sum() / same.sum().clamp(min=1)
    push = ((margin - distance).clamp(min=0).square() * other).sum() / other.sum()
    return pull + 2 * push


class Embedder(nn.Module):
    def __init__(self, width=64, n_out=12):
        super().__init__()
        self.inner = nn.Linear(dim, width)
        self.norm = nn.LayerNorm(width)
        self.outer = nn.Linear(width, n_out)

    def forward(self, x):
        return self.outer(torch.relu(self.norm(self.inner(x))))


embedder = Embedder()
optimizer = torch.optim.Adam(embedder.parameters(), lr=1e-3)

for step in range(300):
    x, walker = trails(96)
    loss = margin_loss(embedder(x), walker)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

embedder.eval()
with torch.no_grad():
    x, walker = trails(800)
    print(f"final_loss {margin_loss(embedder(x), walker).item():.4f}")
