"""Mixture density network: where does a ring thrown by a player land? Beginners have two habits, so two modes."""

import torch
import torch.nn as nn
from torch import distributions as D

torch.manual_seed(99)


def throws(n):
    player = torch.randn(n, 4)
    habit = (torch.rand(n) < torch.sigmoid(2 * player[:, 0])).float()
    centre = torch.where(habit > 0, 1 + 0.5 * player[:, 1], -1 + torch.sin(2 * player[:, 2]))
    spread = 0.15 + 0.1 * torch.sigmoid(player[:, 3])
    return player, centre + spread * torch.randn(n)


class MDN(nn.Module):
    def __init__(self, n_in=4, n_hidden=48, n_mix=3):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_in, n_hidden), nn.Tanh(), nn.Linear(n_hidden, n_hidden), nn.Tanh())
        self.weight = nn.Linear(n_hidden, n_mix)
        self.mean = nn.Linear(n_hidden, n_mix)
        self.log_scale = nn.Linear(n_hidden, n_mix)

    def forward(self, x):
        h = self.trunk(x)
        scale = self.log_scale(h).clamp(-4, 3).exp()
        return D.MixtureSameFamily(D.Categorical(logits=self.weight(h)), D.Normal(self.mean(h), scale))


mdn = MDN()
optimizer = torch.optim.Adam(mdn.parameters(), lr=5e-3)
for step in range(400):
    x, y = throws(128)
    optimizer.zero_grad()
    loss = -mdn(x).log_prob(y).mean()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"{step}: {loss.item():.3f}")

mdn.eval()
with torch.no_grad():
    x, y = throws(4000)
    print(f"final_loss {-mdn(x).log_prob(y).mean().item():.4f}")
