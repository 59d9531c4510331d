"""Estimate the flow of rivers from the readings of their gauges, checked river by river."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(48)

n_gauges = 8
mixing = torch.randn(4, n_gauges) / 2


def river(level, n):
    state = torch.randn(n, 4)
    state[:, 0] = level + 0.4 * state[:, 0]
    state[:, 1] = 0.4 * state[:, 1] - level
    flow = torch.tanh(state[:, 0]) - 0.5 * state[:, 1] + 0.3 * state[:, 2] * state[:, 3]
    return state @ mixing + 0.1 * torch.randn(n, n_gauges), flow + 0.05 * torch.randn(n)


levels = torch.randn(40)
train_x, train_y = (torch.cat(part) for part in zip(*(river(level, 100) for level in levels), strict=True))
mean, std = train_x.mean(0), train_x.std(0)
y_mean, y_std = train_y.mean(), train_y.std()
train_x, train_y = (train_x - mean) / std, (train_y - y_mean) / y_std
held_out = [river(level, 64) for level in torch.randn(20)]
held_out = [((x - mean) / std, (y - y_mean) / y_std) for x, y in held_out]

net = nn.Sequential(
    nn.Linear(n_gauges, 64, bias=False),
    nn.BatchNorm1d(64),
    nn.Tanh(),
    nn.Linear(64, 64, bias=False),
    nn.BatchNorm1d(64),
    nn.Tanh(),
    nn.Linear(64, 1),
)
parameters = list(net.parameters())
momentum = [torch.zeros_like(p) for p in parameters]
lr = 0.02


def validate():
    with torch.no_grad():
        losses = [F.mse_loss(net(x).squeeze(1), y).item() for x, y in held_out]
    return sum(losses) / len(losses)


for step in range(400):
    ix = torch.randint(0, len(train_x), (100,))
    loss = F.mse_loss(net(train_x[ix]).squeeze(1), train_y[ix])
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p, m in zip(parameters, momentum, strict=True):
            m.mul_(0.8).add_(p.grad)
            p.sub_(lr * m)
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}  held out {validate():.4f}")

print(f"final_loss {validate():.4f}")
