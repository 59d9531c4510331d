"""Model-agnostic meta-learning: adapt to a sine of unknown amplitude and phase from ten points."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call

torch.manual_seed(10)


class Task:
    def __init__(self):
        self.amplitude = 0.5 + 3.0 * torch.rand(())
        self.phase = math.pi * torch.rand(())

    def sample(self, k):
        x = 10 * torch.rand(k, 1) - 5
        return x, self.amplitude * torch.sin(x + self.phase)


model = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
meta_optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
inner_lr, inner_steps, meta_batch, k_shot = 0.03, 2, 8, 10


def adapt(task, create_graph):
    params = dict(model.named_parameters())
    x, y = task.sample(k_shot)
    for _ in range(inner_steps):
        loss = F.mse_loss(functional_call(model, params, x), y)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=create_graph)
        params = {name: p - inner_lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
    return params


running = None
for iteration in range(400):
    meta_loss = 0.0
    for _ in range(meta_batch):
        task = Task()
        fast = adapt(task, create_graph=True)
        x, y = task.sample(k_shot)
        meta_loss = meta_loss + F.mse_loss(functional_call(model, fast, x), y)
    meta_loss = meta_loss / meta_batch
    meta_optimizer.zero_grad()
    meta_loss.backward()
    meta_optimizer.step()
    running = meta_loss.item() if running is None else 0.95 * running + 0.05 * meta_loss.item()
    if iteration % 50 == 0:
        print(f"iteration {iteration:4d}  loss after adaptation {running:.3f}")

model.eval()
total, trivial, n_test = 0.0, 0.0, 200
for _ in range(n_test):
    task = Task()
    fast = adapt(task, create_graph=False)
    x, y = task.sample(50)
    with torch.no_grad():
        total += F.mse_loss(functional_call(model, fast, x), y).item()
        trivial += y.square().mean().item()
print(f"without a model {trivial / n_test:.3f}")
print(f"final_loss {total / n_test:.4f}")
