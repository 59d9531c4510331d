"""Reconstruct a lake's depth at a point from echo readings around it."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(127)

n_echoes = 10
mixing = torch.randn(n_echoes, n_echoes) / n_echoes**0.5


def soundings(n):
    x = torch.randn(n, n_echoes)
    h = torch.tanh(x @ mixing)
    y = h[:, :5].sum(1) + h[:, 5] * h[:, 6] + 0.1 * torch.randn(n)
    return 4 + 3 * x, y[:, None] / 1.4


class Depth(nn.Module):
    def __init__(self, mean, std, width=48):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.up = nn.Linear(n_echoes, width)
        self.gate = nn.Linear(n_echoes, width)
        self.down = nn.Linear(width, 1)

    def forward(self, x):
        x = (x - self.mean) / self.std
        return self.down(self.up(x) * torch.sigmoid(self.gate(x)))


loader = DataLoader(TensorDataset(*soundings(12_000)), batch_size=40, shuffle=True)
batches = iter(loader)
everything = torch.cat([x for x, _ in batches])
model = Depth(everything.mean(0), everything.std(0))
criterion = nn.MSELoss()
optimizer = torch.optim.NAdam(model.parameters(), lr=3e-3)

model.train()
for x, y in batches:
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

model.eval()
with torch.no_grad():
    x, y = soundings(2000)
    print(f"final_loss {criterion(model(x), y).item():.4f}")
