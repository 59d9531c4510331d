"""The fare that four out of five taxi trips stay below, given the trip."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1907)
QUANTILE = 0.8


def trips(n):
    km = torch.empty(n).exponential_(0.5).clamp(max=12)
    hour = torch.rand(n) * 24
    rain = (torch.rand(n) < 0.25).float()
    luggage = torch.poisson(torch.full((n,), 1.2))
    rush = torch.exp(-((hour - 8) ** 2) / 6) + torch.exp(-((hour - 17.5) ** 2) / 8)
    fare = 3 + 1.9 * km + 2.5 * rush * km**0.5 + 1.5 * rain + 0.6 * luggage
    fare = fare * (1 + 0.12 * torch.randn(n)) + 0.5 * torch.randn(n)
    angle = hour / 24 * 2 * torch.pi
    x = torch.stack([(km - 2) / 2, angle.sin(), angle.cos(), (rain - 0.25) / 0.43, (luggage - 1.2) / 1.1], dim=1)
    return x, (fare - 9.5) / 5


def pinball(prediction, target, q=QUANTILE):
    difference = target - prediction
    return torch.max(q * difference, (q - 1) * difference).mean()


train_loader = DataLoader(TensorDataset(*trips(6400)), batch_size=64, shuffle=True)
test_x, test_y = trips(2000)

model = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(4):
    total = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = pinball(model(x).squeeze(-1), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}: {total / len(train_loader):.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {pinball(model(test_x).squeeze(-1), test_y).item():.4f}")
