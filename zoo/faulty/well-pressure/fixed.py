"""Predict the pressure in a well from its neighbours' logs."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(19)

n_wells = 9


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.tanh(self.linear(self.norm(x)))


def logs(n):
    x = torch.randn(n, n_wells)
    y = x[:, 0] * x[:, 1] + torch.sin(x[:, 2:5].sum(1)) + 0.6 * x[:, 5] + 0.05 * torch.randn(n)
    return x, (y / 1.4).unsqueeze(1)


x, y = logs(20_000)
extreme = torch.rand(len(x)) < 1 / 1000
y[extreme] = 90 * torch.randn(int(extreme.sum()), 1).sign()
y = y.clamp(-4, 4)

model = nn.Sequential(nn.Linear(n_wells, 48), Residual(48), Residual(48), nn.Linear(48, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(500):
    ix = torch.randint(0, len(x), (64,))
    loss = F.mse_loss(model(x[ix]), y[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x_test, y_test = logs(3000)
    print(f"final_loss {F.mse_loss(model(x_test), y_test).item():.4f}")
