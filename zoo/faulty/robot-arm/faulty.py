"""Learn where a planar arm's hand is, and how far from an obstacle, from its joint angles."""

import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(413)

SEGMENTS = torch.tensor([1.0, 0.8, 0.5])


def poses(n):
    angles = (2 * torch.rand(n, 3) - 1) * (math.pi / 2)
    total = angles.cumsum(1)
    x, y = (SEGMENTS * total.cos()).sum(1), (SEGMENTS * total.sin()).sum(1)
    distance = ((x - 1).square() + (y - 1).square()).sqrt()
    target = torch.stack([x - 1.1, y, distance - 1.4], dim=1)
    return 1.1 * angles, target + 0.02 * torch.randn(n, 3)


class ArmModel(nn.Module):
    def __init__(self, sizes=(3, 48, 48, 48)):
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(len(sizes) - 1):
            layer = nn.Linear(sizes[i], sizes[i + 1])
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)
            self.layers.append(layer)
        self.head = nn.Linear(sizes[-1], 3)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def run_epoch(model, loader, optimizer):
    total = 0.0
    for angles, target in loader:
        loss = nn.functional.smooth_l1_loss(model(angles), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


loader = DataLoader(TensorDataset(*poses(6400)), batch_size=50, shuffle=True)
model = ArmModel()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
for epoch in range(4):
    print(f"epoch {epoch}  loss {run_epoch(model, loader, optimizer):.4f}")

model.eval()
with torch.no_grad():
    angles, target = poses(2000)
    print(f"final_loss {nn.functional.smooth_l1_loss(model(angles), target).item():.5f}")
