"""Tell from forty gas sensors which of twelve vents is open, with plain tensors and momentum by hand."""

import torch
import torch.nn.functional as F

torch.manual_seed(201)

n_sensors, n_vents, width = 40, 12, 200
pattern = torch.randn(n_vents, n_sensors)


def readings(n):
    vent = torch.randint(0, n_vents, (n,))
    strength = 0.4 + torch.rand(n, 1)
    x = strength * pattern[vent] + 0.8 * torch.randn(n, n_sensors)
    return x / (1 + 0.64) ** 0.5, vent


x_train, y_train = readings(6000)
x_test, y_test = readings(2000)

w1 = torch.randn(n_sensors, width) * (2 / n_sensors) ** 0.5
b1 = torch.full((width,), -1.2)  # each unit answers to few readings
w2 = torch.randn(width, n_vents) * 0.5 / width**0.5
b2 = torch.zeros(n_vents)
parameters = [w1, b1, w2, b2]
velocity = [torch.zeros_like(p) for p in parameters]
for p in parameters:
    p.requires_grad = True


def logits_of(x):
    hidden = torch.relu(x @ w1 + b1)
    return hidden @ w2 + b2


for step in range(400):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.cross_entropy(logits_of(x_train[ix]), y_train[ix])
    for p in parameters:
        p.grad = None
    loss.backward()
    with torch.no_grad():
        for p, v in zip(parameters, velocity, strict=True):
            v.mul_(0.9).add_(p.grad)
            p.sub_(0.02 * v)
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {F.cross_entropy(logits_of(x_test), y_test).item():.4f}")
