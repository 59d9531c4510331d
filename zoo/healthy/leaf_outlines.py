"""Classify leaf outlines given as radii; the learning rate follows half a cosine down to zero."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(222)

n_points, n_species = 32, 6
angle = torch.linspace(0, 2 * math.pi, n_points + 1)[:-1]


def leaves(n):
    species = torch.randint(0, n_species, (n,))
    lobes = (species % 3 + 2).unsqueeze(1)
    sharp = torch.where(species < 3, 0.5, 1.0).unsqueeze(1)
    turn = 2 * math.pi * torch.rand(n, 1)
    radius = 1 + 0.5 * torch.cos(lobes * angle + turn) * sharp + 0.2 * torch.randn(n, n_points)
    return (radius - 1) / 0.35, species


class LeafNet(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.first = nn.Linear(n_points, width)
        self.norm = nn.LayerNorm(width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, n_species)

    def forward(self, x):
        h = F.mish(self.norm(self.first(x)))
        return self.last(h + F.mish(self.second(h)))


n_steps = 400
model = LeafNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_steps, eta_min=0.0)

for step in range(n_steps):
    x, y = leaves(64)
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 80 == 0:
        print(f"step {step:4d}  lr {schedule.get_last_lr()[0]:.4f}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = leaves(3000)
    print(f"final_loss {F.cross_entropy(model(x), y).item():.4f}")
