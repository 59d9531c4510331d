"""Forecast the next value of a sum of waves at every time with a causal convolution network."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(5)

length = 48


def tides(n):
    t = torch.arange(length + 1)
    period = 6 + 10 * torch.rand(n, 2, 1)
    phase = 2 * math.pi * torch.rand(n, 2, 1)
    wave = torch.sin(2 * math.pi * t / period + phase).sum(1) + 0.1 * torch.randn(n, length + 1)
    return wave[:, None, :-1], wave[:, None, 1:]


class CausalConv(nn.Module):
    def __init__(self, n_in, n_out, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.conv = nn.Conv1d(n_in, n_out, 3, dilation=dilation)

    def forward(self, x):
        return self.conv(F.pad(x, (self.pad, 0)))


class Forecaster(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.inp = CausalConv(1, width, 1)
        self.mid = nn.ModuleList(CausalConv(width, width, dilation) for dilation in (2, 4))
        self.out = nn.Conv1d(width, 1, 1)
        nn.init.normal_(self.out.weight, std=0.03)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        h = F.gelu(self.inp(x))
        for layer in self.mid:
            h = h + F.gelu(layer(h))
        return self.out(h)


model = Forecaster()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for step in range(300):
    x, y = tides(32)
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = tides(1000)
    print(f"final_loss {F.mse_loss(model(x), y).item():.4f}")
