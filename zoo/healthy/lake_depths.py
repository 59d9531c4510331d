"""Predict a lake's depth from echoes; dropout stays on when many predictions are averaged into an error bar."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(221)

n_echoes = 10


def echoes(n):
    place = 2 * torch.rand(n, 2) - 1
    depth = torch.cos(2 * place[:, 0]) * (1 - place[:, 1] ** 2) + 0.3 * place[:, 0]
    delays = torch.linspace(0.5, 1.5, n_echoes)
    x = torch.sin(2 * depth.unsqueeze(1) * delays) + 0.5 * place.sum(1, keepdim=True) + 0.2 * torch.randn(n, n_echoes)
    return x, ((depth - 0.45) / 0.5).unsqueeze(1)


class Sounder(nn.Module):
    def __init__(self, width=96, p=0.1):
        super().__init__()
        self.inner = nn.Linear(n_echoes, width)
        self.outer = nn.Linear(width, width)
        self.head = nn.Linear(width, 1)
        self.dropout = nn.Dropout(p)

    def forward(self, x):
        x = self.dropout(F.leaky_relu(self.inner(x), 0.1))
        x = self.dropout(F.leaky_relu(self.outer(x), 0.1))
        return self.head(x)


def predict(model, x, passes=16):
    """Mean and spread of several passes, each with its own units left out."""
    model.train()
    with torch.no_grad():
        draws = torch.stack([model(x) for _ in range(passes)])
    return draws.mean(0), draws.std(0)


x_train, y_train = echoes(6000)
x_valid, y_valid = echoes(400)
x_test, y_test = echoes(2000)
model = Sounder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(4):
    for ix in torch.randperm(len(x_train)).split(64):
        loss = F.mse_loss(model(x_train[ix]), y_train[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mean, spread = predict(model, x_valid)
    print(f"epoch {epoch}  valid {F.mse_loss(mean, y_valid).item():.4f}  error bar {spread.mean().item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(x_test), y_test).item():.4f}")
