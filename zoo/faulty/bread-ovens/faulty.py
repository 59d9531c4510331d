"""Crust colour from 64 oven temperature readings; a two-layer network written out by hand."""

import torch

torch.manual_seed(31)
g = torch.Generator().manual_seed(32)

n_in, n_hidden, batch, lr = 64, 160, 64, 1e-3
curves = torch.randn(6, n_in, generator=g) / n_in**0.5


def bakes(n):
    x = torch.randn(n, n_in, generator=g)
    z = x @ curves.T
    y = torch.tanh(2 * z[:, 0]) + z[:, 1] * z[:, 2] + torch.relu(z[:, 3]) - 0.5 * z[:, 4].abs()
    return x, y.unsqueeze(1) + 0.1 * torch.randn(n, 1, generator=g)


w1 = torch.randn(n_in, n_hidden)
b1 = torch.zeros(n_hidden)
w2 = torch.randn(n_hidden, 1) * 0.01
b2 = torch.zeros(1)
params = [w1, b1, w2, b2]
for p in params:
    p.requires_grad_()

m = [torch.zeros_like(p) for p in params]
v = [torch.zeros_like(p) for p in params]


def forward(x):
    h = torch.relu(x @ w1 + b1)
    return h @ w2 + b2


for t in range(1, 501):
    x, y = bakes(batch)
    loss = ((forward(x) - y) ** 2).mean()
    for p in params:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for i, p in enumerate(params):  # Adam
            m[i] = 0.9 * m[i] + 0.1 * p.grad
            v[i] = 0.999 * v[i] + 0.001 * p.grad**2
            p -= lr * (m[i] / (1 - 0.9**t)) / ((v[i] / (1 - 0.999**t)).sqrt() + 1e-8)
    if t % 100 == 0:
        print(t, loss.item())

with torch.no_grad():
    x, y = bakes(4000)
    print(f"final_loss {((forward(x) - y) ** 2).mean().item():.4f}")
