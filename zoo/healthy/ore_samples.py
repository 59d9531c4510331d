"""Say whether a bag of rock samples holds a grain of ore; learnt queries attend over the bag."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(240)

n_features, bag_size = 10, 12
ore = torch.randn(n_features)


def bags(n):
    rich = torch.rand(n) < 0.5
    x = torch.randn(n, bag_size, n_features)
    grains = 1 + torch.randint(0, 3, (n, 1))
    place = torch.rand(n, bag_size).argsort(dim=1)
    x = x + 1.5 * ore * ((place < grains) & rich.unsqueeze(1)).unsqueeze(2)
    return x, rich.float()


class AttentionPool(nn.Module):
    def __init__(self, width, n_queries=4):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(n_queries, width) / width**0.5)
        self.keys = nn.Linear(width, width)
        self.values = nn.Linear(width, width)

    def forward(self, x):
        scores = self.queries @ self.keys(x).transpose(1, 2) / x.shape[-1] ** 0.5
        return (scores.softmax(dim=-1) @ self.values(x)).flatten(1)


class BagNet(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.grain = nn.Linear(n_features, width)
        self.pool = AttentionPool(width)
        self.norm = nn.LayerNorm(4 * width)
        self.verdict = nn.Linear(4 * width, 1)

    def forward(self, x):
        pooled = self.pool(F.gelu(self.grain(x)))
        return self.verdict(self.norm(pooled)).squeeze(1)


model = BagNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(300):
    x, y = bags(64)
    loss = F.binary_cross_entropy_with_logits(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = bags(2000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(model(x), y).item():.4f}")
