"""Learn the height of a tide from the phases of its parts."""

import math

import torch
import torch.nn.functional as F

torch.manual_seed(5)

n_parts, width, batch = 3, 80, 50
periods = torch.tensor([12.42, 12.0, 25.82])
strength = torch.tensor([1.0, 0.6, 0.5])


def records(n):
    hour = 1000 * torch.rand(n, 1)
    angle = 2 * math.pi * hour / periods
    phases = torch.cat([angle.sin(), angle.cos()], dim=1) * math.sqrt(2)
    height = (strength * (angle + 0.4 * angle.cos()).cos()).sum(1, keepdim=True)
    return phases, height + 0.05 * torch.randn(n, 1)


phases, heights = records(6000)
heights = heights / heights.std()
w1 = torch.randn(2 * n_parts, width) * (5 / 3) / math.sqrt(2 * n_parts)
b1 = torch.zeros(width)
w2 = torch.randn(width) / math.sqrt(width)
b2 = torch.zeros(())
params = [p.requires_grad_() for p in (w1, b1, w2, b2)]
velocity = [torch.zeros_like(p) for p in params]


def predict(x):
    return torch.tanh(x @ w1 + b1) @ w2 + b2


for step in range(500):
    rows = torch.randint(0, 5000, (batch,))
    loss = F.smooth_l1_loss(predict(phases[rows]), heights[rows])
    grads = torch.autograd.grad(loss, params)
    with torch.no_grad():
        for p, v, g in zip(params, velocity, grads, strict=True):
            v.mul_(0.9).add_(g)
            p.sub_(0.03 * v)
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    test_loss = F.smooth_l1_loss(predict(phases[5000:]), heights[5000:, 0])
print(f"final_loss {test_loss.item():.4f}")
