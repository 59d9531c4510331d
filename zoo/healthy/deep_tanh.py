"""Twelve hidden tanh layers, written with plain tensors, on a two-way parity of signs."""

import torch
import torch.nn.functional as F

torch.manual_seed(109)

dim, width, depth = 10, 40, 12


def points(n):
    x = 0.75 * torch.randn(n, dim)
    return x, (x[:, 0] * x[:, 1] + 0.4 * x[:, 2] > 0.06 * torch.randn(n)).long()


x_train, y_train = points(8000)
x_test, y_test = points(2000)

fan_ins = [dim] + [width] * (depth - 1)
weights = [torch.randn(fan_in, width) * (5 / 3) / fan_in**0.5 for fan_in in fan_ins]
biases = [torch.zeros(width) for _ in range(depth)]
head = torch.randn(width, 2) * 0.5 / width**0.5
parameters = [*weights, *biases, head]
for p in parameters:
    p.requires_grad_()


def forward(x):
    for w, b in zip(weights, biases, strict=True):
        x = torch.tanh(x @ w + b)
    return x @ head


optimizer = torch.optim.Adam(parameters, lr=7e-4)

for step in range(500):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.cross_entropy(forward(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {F.cross_entropy(forward(x_test), y_test).item():.4f}")
