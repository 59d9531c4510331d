"""Regression on measurements with a few gross errors; large gradients are clipped by their norm."""

import torch
import torch.nn as nn

torch.manual_seed(214)

dim, max_norm = 8, 1.0


def storms(n, gross=True):
    x = torch.randn(n, dim)
    y = torch.sin(x[:, 0]) + 0.6 * x[:, 1] * torch.sigmoid(2 * x[:, 2]) - 0.5 * x[:, 3].abs() + 0.1 * torch.randn(n)
    if gross:
        y = torch.where(torch.rand(n) < 0.03, y + 6 * torch.randn(n), y)
    return x, (y + 0.4).unsqueeze(1)


model = nn.Sequential(nn.Linear(dim, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
criterion = nn.HuberLoss(delta=0.5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.08, momentum=0.9, nesterov=True)

model.train()
clipped = 0
for step in range(400):
    x, y = storms(48)
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm * 0.25)
    clipped += int(norm > max_norm * 0.25)
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}  clipped so far {clipped}")

model.eval()
with torch.no_grad():
    x, y = storms(2000, gross=False)
    print(f"final_loss {criterion(model(x), y).item():.4f}")
