"""Sort short noisy waves into five families."""

import torch
import torch.nn.functional as F

torch.manual_seed(32)

n_points, n_families, n_hidden = 24, 5, 64
grid = torch.linspace(0, 1, n_points)
rates = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0])


def waves(n):
    family = torch.randint(0, n_families, (n,))
    phase = 1.5 * torch.rand(n, 1)
    wave = torch.sin(6.28318 * (rates[family, None] * grid + phase))
    return wave / 0.7 + torch.randn(n, n_points), family


W1 = torch.randn(n_hidden, n_points) * (2 / n_points) ** 0.5
W2 = torch.randn(n_hidden, n_hidden) * (2 / n_hidden) ** 0.5
b1 = torch.zeros(n_hidden)
W3 = torch.randn(n_families, n_hidden) * 0.05
b3 = torch.zeros(n_families)
gain1, shift1 = torch.ones(n_hidden), torch.zeros(n_hidden)
gain2, shift2 = torch.ones(n_hidden), torch.zeros(n_hidden)
parameters = [W1, b1, W2, W3, b3, gain1, shift1, gain2, shift2]
for p in parameters:
    p.requires_grad_()
running = [torch.zeros(n_hidden), torch.ones(n_hidden), torch.zeros(n_hidden), torch.ones(n_hidden)]


def network(x, training):
    h = F.linear(x, W1, b1)
    h = F.relu(F.batch_norm(h, running[0], running[1], gain1, shift1, training))
    h = F.linear(h, W2)
    h = F.relu(F.batch_norm(h, running[2], running[3], gain2, shift2, training))
    return F.linear(h, W3, b3)


velocity = [torch.zeros_like(p) for p in parameters]
for step in range(400):
    x, y = waves(96)
    loss = F.cross_entropy(network(x, training=True), y)
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for p, v, g in zip(parameters, velocity, gradients, strict=True):
            v.mul_(0.9).add_(g)
            p.sub_(0.02 * v)
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    x, y = waves(3000)
    print(f"final_loss {F.cross_entropy(network(x, training=False), y).item():.4f}")
