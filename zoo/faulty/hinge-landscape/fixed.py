"""Fit a landscape over the plane as a sum of hinges, one per direction and offset."""

import math

import torch
import torch.nn.functional as F

torch.manual_seed(409)

n_hinges, reach = 96, 2.0


def landscape(n):
    place = torch.randn(n, 2).clamp(-2.5, 2.5)
    height = torch.sin(2 * place[:, 0]) * torch.cos(1.5 * place[:, 1]) + 0.4 * place[:, 0]
    return place, height + 0.05 * torch.randn(n)


angle = 2 * math.pi * torch.rand(n_hinges)
directions = torch.stack([angle.cos(), angle.sin()], dim=1)
offsets = torch.empty(n_hinges).uniform_(-reach, reach)
heights = 0.02 * torch.randn(1, n_hinges)
base = torch.zeros(1)
parameters = [directions, offsets, heights, base]
for p in parameters:
    p.requires_grad_()


def height_at(place):
    hinges = F.linear(place, directions, offsets).relu()
    return F.linear(hinges, heights, base).squeeze(1)


place_train, height_train = landscape(5000)
optimizer = torch.optim.RMSprop(parameters, lr=2e-3)

for step in range(600):
    ix = torch.randint(0, len(place_train), (100,))
    loss = F.mse_loss(height_at(place_train[ix]), height_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    place_test, height_test = landscape(3000)
    print(f"final_loss {F.mse_loss(height_at(place_test), height_test).item():.4f}")
