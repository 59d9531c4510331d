"""Fit a smooth surface over five inputs with few active features per point."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1)


def surface(n):
    x = 3.4 * torch.rand(n, 5) - 1.7
    y = torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3].abs() - x[:, 4]
    return x, y + 0.1 * torch.randn(n)


x_train, y_train = surface(8000)
x_test, y_test = surface(2000)
mean, std = y_train.mean(), y_train.std()
y_train, y_test = (y_train - mean) / std, (y_test - mean) / std

features = nn.Sequential(
    nn.Linear(5, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
)
readout = nn.Linear(64, 1)
for layer in (features[0], features[2]):
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
nn.init.normal_(readout.weight, std=0.05)
nn.init.zeros_(readout.bias)

sparsity = 0.0005
optimizer = torch.optim.Adam([*features.parameters(), *readout.parameters()], lr=3e-3)

for step in range(600):
    ix = torch.randint(0, len(x_train), (64,))
    active = features(x_train[ix])
    loss = F.mse_loss(readout(active).squeeze(1), y_train[ix]) + sparsity * active.sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

features.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(readout(features(x_test)).squeeze(1), y_test).item():.4f}")
