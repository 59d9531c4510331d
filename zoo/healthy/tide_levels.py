"""Predict the water level from the moon, the sun and the wind; the loss sums over the batch."""

import math

import torch
import torch.nn.functional as F

torch.manual_seed(232)


def hours(n):
    moon, sun = 2 * math.pi * torch.rand(2, n)
    wind, pressure = torch.randn(2, n)
    level = torch.cos(2 * moon) * (1 + 0.3 * torch.cos(moon - sun)) + 0.4 * wind.clamp(-2, 2) - 0.2 * pressure
    x = torch.stack([moon.sin(), moon.cos(), sun.sin(), sun.cos(), wind, pressure], dim=1)
    return x, level + 0.1 * torch.randn(n)


def fan_in_normal(rows, cols, gain):
    return (torch.randn(rows, cols) * gain / math.sqrt(rows)).requires_grad_()


w1, b1 = fan_in_normal(6, 64, 5 / 3), torch.zeros(64, requires_grad=True)
w2, b2 = fan_in_normal(64, 64, 5 / 3), torch.zeros(64, requires_grad=True)
w3, b3 = fan_in_normal(64, 1, 1.0), torch.zeros(1, requires_grad=True)
optimizer = torch.optim.SGD([w1, b1, w2, b2, w3, b3], lr=4e-4, momentum=0.9)


def predict(x):
    h = torch.tanh(x @ w1 + b1)
    h = torch.tanh(h @ w2 + b2)
    return (h @ w3 + b3).squeeze(1)


for step in range(400):
    x, y = hours(64)
    loss = F.mse_loss(predict(x), y, reduction="sum")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss of the batch {loss.item():.3f}")

with torch.no_grad():
    x, y = hours(2000)
    print(f"final_loss {F.mse_loss(predict(x), y).item():.4f}")
