"""Fit a smooth height field over the plane with sine layers."""

import math

import torch
from torch import nn

torch.manual_seed(8)


def height(xy):
    x, y = xy[:, :1], xy[:, 1:]
    return torch.sin(3 * x + 1) * torch.cos(2 * y) + 0.5 * torch.sin(4 * x * y)


class Sine(nn.Module):
    def __init__(self, n_in, n_out, omega=3.0, first=False):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.omega = omega
        bound = 1 / n_in if first else math.sqrt(6 / n_in) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.omega * self.linear(x))


field = nn.Sequential(Sine(2, 64, first=True), *[Sine(64, 64) for _ in range(5)], nn.Linear(64, 1))
nn.init.uniform_(field[-1].weight, -0.1, 0.1)
optimizer = torch.optim.Adam(field.parameters(), lr=5e-4)
noise = 0.1


def batch(n):
    xy = 2 * torch.rand(n, 2) - 1
    return xy * math.sqrt(3), height(xy) + noise * torch.randn(n, 1)


for step in range(400):
    xy, z = batch(128)
    loss = (field(xy) - z).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

field.eval()
with torch.no_grad():
    xy, z = batch(4000)
    print(f"final_loss {(field(xy) - z).square().mean().item():.4f}")
