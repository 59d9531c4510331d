"""Forecast the next value of a tide-like series from its last 24 values, with averaged weights."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(44)


def windows(n, length=24):
    time = torch.arange(length + 1.0)
    phase = 6.3 * torch.rand(2, n, 1)
    pace = 0.3 + 0.4 * torch.rand(n, 1)
    series = torch.sin(pace * time + phase[0]) + 0.7 * torch.sin(0.9 * time + phase[1])
    series = (series + 0.05 * torch.randn(n, length + 1)) / 0.86
    return series[:, None, :-1], series[:, -1]


class Forecaster(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.conv1 = nn.Conv1d(1, width, 5, padding=2, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 5, padding=2, bias=False)
        self.norm2 = nn.BatchNorm1d(width)
        self.head = nn.Linear(width * 24, 1)

    def forward(self, x):
        x = F.silu(self.norm1(self.conv1(x)))
        x = F.silu(self.norm2(self.conv2(x)))
        return self.head(x.flatten(1)).squeeze(1)


@torch.no_grad()
def update_average(average, model, decay=0.95):
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for kept, new in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(new)


model = Forecaster()
average = Forecaster().eval()
average.load_state_dict(model.state_dict())
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
x_test, y_test = windows(1000)

for step in range(300):
    x, y = windows(64)
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    update_average(average, model)
    if (step + 1) % 50 == 0:
        with torch.no_grad():
            test_loss = F.mse_loss(average(x_test), y_test)
        print(f"step {step + 1:4d}  loss {loss.item():.4f}  test {test_loss.item():.4f}")

print(f"final_loss {test_loss.item():.4f}")
