"""Fit a small network to measured decay curves with L-BFGS on the whole data set."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(219)


def curves(n):
    time = 3 * torch.rand(n, 1)
    dose = torch.rand(n, 1)
    level = (0.5 + dose) * torch.exp(-time * (0.5 + dose)) + 0.3 * torch.sin(3 * time) * dose
    x = torch.cat([time - 1.5, 3 * (dose - 0.5)], dim=1)
    return x, (level - 0.35) / 0.3 + 0.03 * torch.randn(n, 1)


x_train, y_train = curves(400)
x_test, y_test = curves(1000)

model = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, history_size=10, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = F.mse_loss(model(x_train), y_train)
    loss.backward()
    return loss


for step in range(150):
    loss = optimizer.step(closure)
    if step % 25 == 0:
        print(f"step {step:4d}  loss {loss.item():.5f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(x_test), y_test).item():.5f}")
