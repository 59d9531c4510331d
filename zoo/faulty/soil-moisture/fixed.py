"""Soil moisture anomaly (standardised) for the next day, from two weeks of weather."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

rng = np.random.default_rng(8)
torch.manual_seed(8)
DAYS, VARS = 14, 3


def weather(n):
    """Rain, sun and wind anomalies; moisture is a leaky bucket that rain fills and sun empties."""
    shocks = rng.standard_normal((n, DAYS, VARS))
    series = np.zeros_like(shocks)
    series[:, 0] = shocks[:, 0]
    for t in range(1, DAYS):
        series[:, t] = 0.5 * series[:, t - 1] + 0.87 * shocks[:, t]
    bucket = np.zeros(n)
    for t in range(DAYS):
        rain, sun, wind = series[:, t].T
        bucket = 0.8 * bucket + np.tanh(rain) - 0.5 * sun - 0.3 * np.maximum(wind, 0) * sun
    moisture = (bucket - 0.05) / 1.9 + 0.15 * rng.standard_normal(n)
    return torch.from_numpy(series).float(), torch.from_numpy(moisture).float()


class MoistureNet(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(VARS, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        _, h = self.gru(x)
        h = F.relu(self.fc(h[-1]))
        return self.out(h).squeeze(1)


net = MoistureNet()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for i in range(300):
    x, y = weather(64)
    y_hat = net(x)
    loss = F.mse_loss(y_hat, y)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    opt.step()
    if i % 60 == 0:
        print("iteration", i, "mse", round(loss.item(), 4))

net.eval()
with torch.no_grad():
    x, y = weather(3000)
    print(f"final_loss {F.mse_loss(net(x), y).item():.4f}")
