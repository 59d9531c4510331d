"""Compute where a three-jointed arm's hand is from the angles of its joints."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(19)


def poses(n):
    angles = 2 * math.pi * (torch.rand(n, 3) - 0.5)
    total = angles.cumsum(1)
    hand = torch.stack([total.cos().sum(1), total.sin().sum(1)], dim=1)
    return angles / 1.8, hand / 1.2


class Arm(nn.Module):
    def __init__(self, width=24, n_blocks=3):
        super().__init__()
        self.inp = nn.Linear(3, width)
        self.blocks = [
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(n_blocks)
        ]
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 2)
        nn.init.normal_(self.out.weight, std=0.05)

    def forward(self, angles):
        h = self.inp(angles)
        for block in self.blocks:
            h = h + block(h)
        return self.out(self.norm(h))


model = Arm()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500, eta_min=1e-4)

for step in range(500):
    angles, hand = poses(128)
    loss = F.mse_loss(model(angles), hand)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    angles, hand = poses(2000)
    print(f"final_loss {F.mse_loss(model(angles), hand).item():.4f}")
