"""Tell four interleaved spiral arms apart by a point's coordinates."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(31)

n_arms = 4


def arms(n):
    label = torch.randint(0, n_arms, (n,))
    radius = torch.rand(n).sqrt()
    angle = 3.5 * radius + 2 * math.pi * label / n_arms + 0.15 * torch.randn(n)
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return points / 0.5, label


def train(model, loader, optimizer, n_epochs):
    for epoch in range(n_epochs):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  loss {loss.item():.4f}")


model = nn.Sequential(
    nn.Linear(2, 64),
    nn.LeakyReLU(0.1),
    nn.Linear(64, 64),
    nn.LeakyReLU(0.1),
    nn.Linear(64, n_arms),
)
loader = DataLoader(TensorDataset(*arms(4000)), batch_size=50, shuffle=True)
train(model, loader, torch.optim.SGD(model.parameters(), lr=0.2), n_epochs=6)

model.eval()
with torch.no_grad():
    x_test, y_test = arms(2000)
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
