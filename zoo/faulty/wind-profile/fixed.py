"""Predict the power of a turbine from a profile of wind speeds."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(55)


def profiles(n):
    x = torch.randn(n, 10)
    wind = x[:, :5].mean(1) * 2
    power = torch.sigmoid(3 * wind) * (1 + 0.5 * x[:, 5]) + 0.3 * x[:, 6] * x[:, 7]
    return x, (power + 0.05 * torch.randn(n) - 0.5) / 0.65


class Layer(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.dropout = dropout

    def forward(self, x):
        h = self.down(F.gelu(self.up(self.norm(x))))
        return x + F.dropout(h, self.dropout, training=self.training)


model = nn.Sequential(nn.Linear(10, 48), Layer(48, 0.2), Layer(48, 0.2), nn.LayerNorm(48), nn.Linear(48, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.99))
x_train, y_train = profiles(6000)
x_test, y_test = profiles(2000)


def loss_of(x, y):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.mse_loss(model(x).squeeze(1).float(), y)


for epoch in range(4):
    model.train()
    for ix in torch.randperm(len(x_train)).split(80):
        loss = loss_of(x_train[ix], y_train[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        test_loss = loss_of(x_test, y_test).item()
    print(f"epoch {epoch}  loss {loss.item():.4f}  test {test_loss:.4f}")

print(f"final_loss {test_loss:.4f}")
