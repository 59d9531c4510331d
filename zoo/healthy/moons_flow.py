"""A normalising flow of affine couplings that learns the density of two thin crescents."""

import math

import torch
from torch import nn

torch.manual_seed(210)


def crescents(n):
    angle = math.pi * torch.rand(n)
    upper = torch.rand(n) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    points = torch.stack([x - 0.5, y - 0.25], dim=1)
    return 0.3 * (points + 0.04 * torch.randn(n, 2))


class Coupling(nn.Module):
    def __init__(self, fixed, width=48):
        super().__init__()
        self.fixed = fixed
        self.net = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.last = nn.Linear(width, 2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x):
        known, other = x[:, self.fixed, None], x[:, 1 - self.fixed, None]
        log_scale, shift = self.last(self.net(known)).chunk(2, dim=1)
        log_scale = 2 * torch.tanh(log_scale / 2)
        moved = other * log_scale.exp() + shift
        pair = (known, moved) if self.fixed == 0 else (moved, known)
        return torch.cat(pair, dim=1), log_scale.squeeze(1)


class Flow(nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        self.log_gain = nn.Parameter(torch.ones(2))
        self.layers = nn.ModuleList(Coupling(i % 2) for i in range(depth))

    def log_prob(self, x):
        x = x * self.log_gain.exp()
        total = self.log_gain.sum()
        for layer in self.layers:
            x, log_scale = layer(x)
            total = total + log_scale
        return total - 0.5 * x.square().sum(1) - math.log(2 * math.pi)


flow = Flow()
optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)

for step in range(300):
    loss = -flow.log_prob(crescents(128)).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(flow.parameters(), 25.0)
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

flow.eval()
with torch.no_grad():
    print(f"final_loss {-flow.log_prob(crescents(2000)).mean().item():.4f}")
