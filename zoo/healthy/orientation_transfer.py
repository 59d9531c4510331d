"""Learn where bars point, keep the convolutional part as it is, and learn to judge their thickness on top of it."""

import math

import torch
from torch import nn

torch.manual_seed(205)

side = 12
axis = torch.linspace(-1, 1, side)
row, col = torch.meshgrid(axis, axis, indexing="ij")


def bars(n):
    turn = torch.randint(0, 4, (n,))
    thick = torch.randint(0, 2, (n,))
    angle = (turn * math.pi / 4).view(-1, 1, 1)
    distance = (row * angle.cos() + col * angle.sin() + 0.2 * torch.randn(n, 1, 1)).abs()
    image = (distance < torch.where(thick == 1, 0.45, 0.2).view(-1, 1, 1)).float()
    return ((image + 0.4 * torch.randn_like(image)) - 0.3).div(0.6).unsqueeze(1), turn, thick


backbone = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1, bias=False),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1, bias=False),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
)
criterion = nn.CrossEntropyLoss()

head = nn.Linear(16 * 9, 4)
optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.02, momentum=0.9)
for step in range(120):
    x, turn, _ = bars(64)
    loss = criterion(head(backbone(x)), turn)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"directions, step {step:3d}  loss {loss.item():.4f}")

backbone.requires_grad_(False)
backbone.eval()
head = nn.Sequential(nn.LayerNorm(16 * 9), nn.Linear(16 * 9, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
for step in range(200):
    x, _, thick = bars(64)
    loss = criterion(head(backbone(x)), thick)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"thickness, step {step:3d}  loss {loss.item():.4f}")

head.eval()
with torch.no_grad():
    x, _, thick = bars(1000)
    print(f"final_loss {criterion(head(backbone(x)), thick).item():.4f}")
