"""Learn the energy of a chain of springs from forces alone: the loss holds the gradient of the network's output."""

import torch
import torch.nn as nn

torch.manual_seed(220)

n_atoms = 6


def energy_of(x):
    stretch = x[:, 1:] - x[:, :-1]
    return 0.5 * stretch.square().sum(1) + 0.3 * torch.cos(2 * x).sum(1)


def samples(n):
    x = (0.9 * torch.randn(n, n_atoms)).requires_grad_()
    (slope,) = torch.autograd.grad(energy_of(x).sum(), x)
    return x.detach(), -slope.detach()


class Energy(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.lift = nn.Linear(n_atoms, width)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, 1, bias=False)

    def forward(self, x):
        h = nn.functional.softplus(self.lift(x))
        h = nn.functional.softplus(self.mix(h))
        return self.out(h).squeeze(1)


def forces(model, x, create_graph):
    x = x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=create_graph)
    return -slope


model = Energy()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

for step in range(400):
    x, force = samples(64)
    loss = (forces(model, x, create_graph=True) - force).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
x, force = samples(2000)
print(f"final_loss {(forces(model, x, create_graph=False) - force).square().mean().item():.4f}")
