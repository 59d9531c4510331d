"""Predict which subscribers leave from ten measures of their use."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(29)


def subscribers(n):
    x = torch.randn(n, 10)
    pull = x[:, 0] * x[:, 1] + x[:, 2].abs() - x[:, 3] + 0.5 * x[:, 4] + 0.3 * torch.randn(n)
    return x, (pull > 0.8).float()


def build(width=40):
    return nn.Sequential(
        nn.Linear(10, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, 1),
        nn.Softmax(dim=1),
    )


def train(model, x, y, epochs=4, batch_size=64):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        total = 0.0
        for ix in torch.randperm(len(x)).split(batch_size):
            loss = F.binary_cross_entropy(model(x[ix]).squeeze(1), y[ix])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(ix)
        print(f"epoch {epoch}  loss {total / len(x):.4f}")


x, y = subscribers(9000)
model = build()
train(model, x[:7000], y[:7000])
model.eval()
with torch.no_grad():
    print(f"final_loss {F.binary_cross_entropy(model(x[7000:]).squeeze(1), y[7000:]).item():.4f}")
