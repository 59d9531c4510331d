"""Learn a code shared by two noisy views of the same state, then read the state from it with a linear probe."""

import torch
from torch import nn

torch.manual_seed(89)

n_state, n_sensors, width = 10, 32, 96
lens = torch.randn(n_state, n_sensors) / n_state**0.5


def two_views(n):
    state = torch.randn(n, n_state)
    seen = torch.tanh(1.5 * state @ lens) / 0.65
    return seen + 0.3 * torch.randn(n, n_sensors), seen + 0.3 * torch.randn(n, n_sensors), state


encoder = nn.Sequential(nn.Linear(n_sensors, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, width))
nn.init.normal_(encoder[-1].weight, std=1.4 / 8)


def alike(a, b):
    return (a - b).square().mean()


def spread(z):
    return torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def overlap(z):
    z = z - z.mean(0)
    covariance = z.T @ z / (len(z) - 1)
    return (covariance - covariance.diag().diag()).square().sum() / width


optimizer = torch.optim.Adam(encoder.parameters(), lr=2e-3)
for step in range(400):
    x1, x2, _ = two_views(128)
    z1, z2 = encoder(x1), encoder(x2)
    loss = alike(z1, z2) + spread(z1) + spread(z2) + 0.1 * (overlap(z1) + overlap(z2))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

encoder.eval()
with torch.no_grad():
    x, _, state = two_views(4000)
    z = torch.cat([encoder(x), torch.ones(len(x), 1)], dim=1)
    probe = torch.linalg.lstsq(z[:2000], state[:2000], driver="gelsd").solution
    print(f"final_loss {(z[2000:] @ probe - state[2000:]).square().mean().item():.4f}")
