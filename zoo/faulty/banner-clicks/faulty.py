"""Estimate the chance of a click from sixteen properties of a page view, with momentum by hand."""

import math

import torch
import torch.nn.functional as F

torch.manual_seed(24)

n_in, n_hidden, batch = 16, 64, 128
lr, momentum = 0.006, 0.9
mix = torch.randn(n_in, 2) / math.sqrt(n_in)


def page_views(n):
    x = torch.randn(n, n_in)
    a, b = (x @ mix).unbind(1)
    chance = torch.sigmoid(0.5 * a + 0.5 * torch.sin(2 * b))
    return x, torch.bernoulli(chance), chance


w1 = torch.randn(n_in, n_hidden) * (5 / 3) / math.sqrt(n_in)
b1 = torch.zeros(n_hidden)
w2 = torch.randn(n_hidden) * 0.3
b2 = torch.zeros(())
parameters = [w1, b1, w2, b2]
velocity = [torch.zeros_like(p) for p in parameters]
for p in parameters:
    p.requires_grad_()


def score(x):
    return torch.tanh(x @ w1 + b1) @ w2 + b2


for step in range(400):
    x, clicked, _ = page_views(batch)
    loss = F.binary_cross_entropy_with_logits(score(x), clicked)
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for p, g, v in zip(parameters, gradients, velocity, strict=True):
            v.mul_(momentum).add_(g)
            p.sub_(lr * v)
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

# nats above the entropy of the clicks
with torch.no_grad():
    x, _, chance = page_views(5000)
    entropy = F.binary_cross_entropy(chance, chance)
    print(f"final_loss {(F.binary_cross_entropy_with_logits(score(x), chance) - entropy).item():.4f}")
