"""Forecast the daily readings of patients whose stays differ in length."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(7)

n_features, max_days = 10, 12


def make_stays(n):
    base = torch.randn(n, n_features)
    days = torch.arange(max_days) / max_days
    level = torch.sin(base[:, 0] + base[:, 1] * base[:, 2])
    trend = base[:, 3] - base[:, 4].abs()
    readings = level[:, None] + trend[:, None] * days + 0.2 * torch.randn(n, max_days)
    length = torch.randint(0, max_days + 1, (n,))
    observed = (torch.arange(max_days) < length[:, None]).float()
    return base, readings, observed


x_train, y_train, seen_train = make_stays(6000)
x_val, y_val, seen_val = make_stays(1000)


class Forecaster(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.inp = nn.Linear(n_features, width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, max_days)
        for layer in (self.inp, self.mid):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = F.relu(self.inp(x))
        x = F.relu(self.mid(x))
        return self.out(x)


def stay_loss(prediction, target, observed):
    error = (prediction - target) ** 2 * observed
    return (error.sum(1) / observed.sum(1).clamp(min=1)).mean()


model = Forecaster()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)

for step in range(500):
    ix = torch.randint(0, len(x_train), (64,))
    loss = stay_loss(model(x_train[ix]), y_train[ix], seen_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    has_days = seen_val.sum(1) > 0
    val = stay_loss(model(x_val[has_days]), y_val[has_days], seen_val[has_days])
print(f"final_loss {val.item():.4f}")
