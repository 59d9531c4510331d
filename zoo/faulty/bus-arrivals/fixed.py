"""Minutes until the next bus, from the last dozen gaps between buses."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(11)

WINDOW = 12
STEPS = 400


def simulate_line(n_days=60, per_day=96):
    """Gaps follow the time of day, with delays that persist for a while."""
    gaps, delay = [], 0.0
    for _ in range(n_days):
        strength = 1 + 0.3 * torch.randn(()).item()
        for i in range(per_day):
            delay = 0.85 * delay + 0.6 * torch.randn(()).item()
            rush = math.exp(-(((i - 30) / 8) ** 2)) + math.exp(-(((i - 70) / 10) ** 2))
            gaps.append(12 - 5 * strength * rush + delay)
    return torch.tensor(gaps)


gaps = simulate_line()
n_train = 4800
mean, std = gaps[:n_train].mean(), gaps[:n_train].std()
gaps = (gaps - mean) / std
windows = gaps.unfold(0, WINDOW + 1, 1)
inputs, targets = windows[:, :-1].unsqueeze(-1), windows[:, -1]
train_x, train_y = inputs[: n_train - WINDOW], targets[: n_train - WINDOW]
test_x, test_y = inputs[n_train:], targets[n_train:]


class GapForecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        _, h = self.gru(x)
        return self.head(h[-1]).squeeze(-1)


model = GapForecaster()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

for step in range(1, STEPS + 1):
    idx = torch.randint(0, len(train_x), (64,))
    prediction = model(train_x[idx])
    loss = F.mse_loss(prediction, train_y[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: mse {loss.item():.4f}")

model.eval()
with torch.no_grad():
    test_loss = F.mse_loss(model(test_x), test_y).item()
print(f"variance of the test gaps {test_y.var().item():.4f}")
print(f"final_loss {test_loss:.4f}")
