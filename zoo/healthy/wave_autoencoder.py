"""Squeeze short waves through four numbers and rebuild them."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(106)

n_points, n_code = 32, 4
t = torch.linspace(0, 2 * math.pi, n_points)


def waves(n):
    amplitude = torch.randn(n, 2, 1)
    phase = torch.rand(n, 2, 1) * 2 * math.pi
    wave = amplitude[:, 0] * torch.sin(t + phase[:, 0]) + amplitude[:, 1] * torch.sin(2 * t + phase[:, 1])
    return wave + 0.1 * torch.randn(n, n_points)


class Autoencoder(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_points, width), nn.ReLU(), nn.Linear(width, n_code))
        self.decoder = nn.Sequential(nn.Linear(n_code, width), nn.ReLU(), nn.Linear(width, n_points))
        for part in (self.encoder, self.decoder):
            nn.init.kaiming_normal_(part[0].weight, nonlinearity="relu")

    def forward(self, x):
        return self.decoder(self.encoder(x))


x_train, x_test = waves(8000), waves(2000)
model = Autoencoder()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(500):
    x = x_train[torch.randint(0, len(x_train), (64,))]
    loss = F.mse_loss(model(x), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(x_test), x_test).item():.4f}")
