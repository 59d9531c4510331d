"""Colour points in space by the part of a torus they lie near, computing in bfloat16."""

import torch
import torch.nn.functional as F

torch.manual_seed(46)

compute, store = torch.bfloat16, torch.bfloat16
n_parts, n_hidden = 8, 128


def points(n):
    part = torch.randint(0, n_parts, (n,))
    around = 6.28318 * (part + 0.15 + 0.7 * torch.rand(n)) / n_parts
    tube = 6.28318 * torch.rand(n)
    radius = 2 + 0.7 * torch.cos(tube + 2 * around)
    place = torch.stack([radius * around.cos(), radius * around.sin(), 0.7 * torch.sin(tube + 2 * around)], dim=1)
    return (place + 0.15 * torch.randn(n, 3)) / torch.tensor([1.45, 1.45, 0.5]), part


def normal(*shape, gain):
    return (torch.randn(*shape) * gain / shape[0] ** 0.5).to(store)


weights = [
    normal(3, n_hidden, gain=1.2),
    normal(n_hidden, n_hidden, gain=1.2),
    normal(n_hidden, n_parts, gain=0.3),
]
biases = [torch.zeros(w.shape[1], dtype=store) for w in weights]
parameters = weights + biases
for p in parameters:
    p.requires_grad_(True)


def logits_of(x):
    h = x.to(compute)
    h = torch.tanh(h @ weights[0].to(compute) + biases[0].to(compute))
    h = torch.tanh(h @ weights[1].to(compute) + biases[1].to(compute))
    return (h @ weights[2].to(compute) + biases[2].to(compute)).float()


def descend(rate):
    with torch.no_grad():
        for p in parameters:
            p -= rate * p.grad
            p.grad = None


for step in range(500):
    x, part = points(128)
    loss = F.cross_entropy(logits_of(x), part)
    loss.backward()
    descend(rate=0.03)
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    x, part = points(3000)
    print(f"final_loss {F.cross_entropy(logits_of(x), part).item():.4f}")
