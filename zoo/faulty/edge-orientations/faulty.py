"""Estimate the direction from which light falls on small bumpy surfaces."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(411)

side, n_directions = 8, 8


def surfaces(n):
    direction = torch.randint(0, n_directions, (n,))
    angle = direction * (2 * math.pi / n_directions)
    bumps = F.interpolate(torch.randn(n, 1, 5, 5), size=(side + 1, side + 1), mode="bicubic")[:, 0]
    down = bumps[:, 1:, :-1] - bumps[:, :-1, :-1]
    right = bumps[:, :-1, 1:] - bumps[:, :-1, :-1]
    shade = angle.cos()[:, None, None] * down + angle.sin()[:, None, None] * right
    image = torch.stack([bumps[:, :-1, :-1], 1.5 * shade + 0.3 * torch.randn_like(shade)], dim=1)
    return image, direction


class PairedConv(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="linear")
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        x = self.conv(x)
        positive = F.relu(x, inplace=True)
        negative = F.relu(-x)
        return torch.cat([positive, negative], dim=1)


model = nn.Sequential(
    PairedConv(2, 6),
    PairedConv(12, 8),
    nn.AvgPool2d(2),
    PairedConv(16, 8),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(16, n_directions),
)


def train(model, steps, batch_size, lr):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    for step in range(steps):
        images, directions = surfaces(batch_size)
        loss = F.cross_entropy(model(images), directions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


train(model, steps=400, batch_size=48, lr=3e-3)
model.eval()
with torch.no_grad():
    images, directions = surfaces(2000)
    print(f"final_loss {F.cross_entropy(model(images), directions).item():.4f}")
