"""Load on a bridge pier from strain gauges, with a small residual network."""

import torch
import torch.nn as nn

torch.manual_seed(1849)
GAUGES = 16
coupling = torch.randn(GAUGES, 5) / GAUGES**0.5


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


def make_model(dim=32, n_blocks=2):
    return nn.Sequential(
        nn.Linear(GAUGES, dim), *[Block(dim) for _ in range(n_blocks)], nn.LayerNorm(dim), nn.Linear(dim, 1)
    )


def batch(n):
    strain = torch.randn(n, GAUGES)
    c = strain @ coupling
    load = c[:, 0] * c[:, 1] + torch.cos(2 * c[:, 2]) + c[:, 3].abs() - c[:, 4]
    return strain, (load - 0.7 + 0.1 * torch.randn(n)).unsqueeze(1) / 1.6


def fit(model, optimizer, loss_fn, n_steps):
    model.train()
    history = []
    for _ in range(n_steps):
        strain, load = batch(64)
        loss = loss_fn(model(strain), load)
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


def evaluate(model, loss_fn):
    model.eval()
    with torch.no_grad():
        strain, load = batch(4000)
        return loss_fn(model(strain), load).item()


model = make_model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)
loss_fn = nn.SmoothL1Loss()
for round_ in range(5):
    history = fit(model, optimizer, loss_fn, 80)
    print(f"round {round_}: {sum(history) / len(history):.4f}")
print(f"final_loss {evaluate(model, loss_fn):.4f}")
