"""Squeeze short tones into a few whole numbers and rebuild them."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(14)

length, n_code = 32, 8
time = torch.arange(length) / length


def tones(n):
    pitch = 1 + 2 * torch.rand(n, 1)
    phase = 2 * math.pi * torch.rand(n, 1)
    loudness = 0.7 + 0.8 * torch.rand(n, 1)
    return loudness * torch.sin(2 * math.pi * pitch * time + phase) + 0.05 * torch.randn(n, length)


class Coder(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(length, width), nn.SiLU(), nn.Linear(width, n_code))
        self.decoder = nn.Sequential(nn.Linear(n_code, width), nn.SiLU(), nn.Linear(width, length))

    def forward(self, x):
        level = 8 * self.encoder(x)
        code = level.round()
        return self.decoder(code / 8)


coder = Coder()
optimizer = torch.optim.Adam(coder.parameters(), lr=2e-3)

for step in range(500):
    x = tones(96)
    loss = F.mse_loss(coder(x), x)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

coder.eval()
with torch.no_grad():
    x = tones(3000)
    print(f"final_loss {F.mse_loss(coder(x), x).item():.4f}")
