"""Predict tomorrow's load from calendar and weather features."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(110)


def days(n):
    season = torch.rand(n) * 2 * math.pi
    weekend = (torch.rand(n) < 2 / 7).float()
    temperature = torch.sin(season) + 0.5 * torch.randn(n)
    wind = torch.randn(n)
    load = 0.7 * temperature**2 - 0.8 * weekend + 0.3 * wind * temperature + 0.3 * torch.cos(season)
    x = torch.stack([season.sin(), season.cos(), weekend * 2 - 1, temperature, wind], dim=1)
    return x, (load + 0.15 * torch.randn(n)).unsqueeze(1)


x_train, y_train = days(8000)
x_test, y_test = days(2000)
mean, std = y_train.mean(), y_train.std()
y_train, y_test = (y_train - mean) / std, (y_test - mean) / std


class Forecast(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.fc1 = nn.Linear(5, width)
        self.fc2 = nn.Linear(width, width)
        self.drop = nn.Dropout(0.05)
        self.out = nn.Linear(width, 1)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x):
        x = F.gelu(self.fc1(x))
        x = F.gelu(self.fc2(x))
        return self.out(self.drop(x))


steps, warmup = 500, 50
model = Forecast()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)


def factor(step):
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

for step in range(steps):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.mse_loss(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(x_test), y_test).item():.4f}")
