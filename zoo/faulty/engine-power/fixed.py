"""Estimate an engine's power from eight settings."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(31)

n_settings = 8
mixing = torch.randn(n_settings, 5) / n_settings**0.5


def test_bench(n):
    settings = torch.randn(n, n_settings)
    z = settings @ mixing
    power = z[:, 0] + torch.tanh(z[:, 1] * 2) + z[:, 2] * z[:, 3] - 0.5 * z[:, 4].abs()
    return settings, power + 0.05 * torch.randn(n)


settings, power = test_bench(5120)
mean, std = power.mean(), power.std()
power = (power - mean) / std
train_set = TensorDataset(settings[:4096], power[:4096])
held_out = settings[4096:], power[4096:]

model = nn.Sequential(
    nn.Linear(n_settings, 64),
    nn.GELU(),
    nn.Linear(64, 64),
    nn.GELU(),
    nn.Linear(64, 1),
)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


def evaluate():
    model.eval()
    with torch.no_grad():
        predicted = model(held_out[0])[:, 0]
        return (predicted - held_out[1]).square().mean().item()


for epoch in range(6):
    model.train()
    for x, y in DataLoader(train_set, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(model(x).squeeze(1), y)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

print(f"final_loss {evaluate():.4f}")
