"""Sort detector pulses into four classes with a deep network of plain tensors."""

import torch
import torch.nn.functional as F

torch.manual_seed(404)

n_channels, n_sources, n_classes = 12, 16, 4
sources = 1.2 * torch.randn(n_sources, n_channels)


def pulses(n):
    source = torch.randint(0, n_sources, (n,))
    x = sources[source] + 0.7 * torch.randn(n, n_channels)
    return x / 1.4, source % n_classes


sizes = [n_channels] + [64] * 8
weights, biases = [], []
for i in range(len(sizes) - 1):
    fan_in, fan_out = sizes[i], sizes[i + 1]
    std = (2 / fan_in) ** 0.5
    weights.append(torch.randn(fan_in, fan_out) * std)
    biases.append(torch.zeros(fan_out))
weights.append(torch.randn(sizes[-1], n_classes) * 0.3 / sizes[-1] ** 0.5)
biases.append(torch.zeros(n_classes))
parameters = weights + biases
velocity = [torch.zeros_like(p) for p in parameters]
for p in parameters:
    p.requires_grad_()


def forward(x):
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = torch.relu(x @ w + b)
    return x @ weights[-1] + biases[-1]


for step in range(400):
    x, y = pulses(64)
    loss = F.cross_entropy(forward(x), y)
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for p, v, g in zip(parameters, velocity, gradients, strict=True):
            v.mul_(0.9).add_(g)
            p.sub_(0.007 * v)
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    x, y = pulses(3000)
    print(f"final_loss {F.cross_entropy(forward(x), y).item():.4f}")
