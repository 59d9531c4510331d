"""Draw points on eight islands; a critic whose slope is held near one says how far the drawn ones lie from the real."""

import math

import torch
import torch.nn as nn

torch.manual_seed(280)

n_noise, n_critic, penalty_weight = 4, 3, 2.0
bearings = 2 * math.pi * torch.arange(8) / 8
islands = 1.4 * torch.stack([bearings.cos(), bearings.sin()], dim=1)


def real_points(n):
    return islands[torch.randint(0, 8, (n,))] + 0.1 * torch.randn(n, 2)


def energy_distance(a, b):
    return 2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()


def steepness(critic, real, drawn):
    """How far the norm of the critic's gradient is from one, between real and drawn points."""
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * drawn).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


generator = nn.Sequential(nn.Linear(n_noise, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
g_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.9))
c_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
real_test = real_points(1500)


def distance():
    with torch.no_grad():
        return energy_distance(generator(torch.randn(1500, n_noise)), real_test).item()


for step in range(300):
    for _ in range(n_critic):
        real = real_points(128)
        with torch.no_grad():
            drawn = generator(torch.randn(128, n_noise))
        gap = critic(drawn).mean() - critic(real).mean()
        c_loss = gap + penalty_weight * steepness(critic, real, drawn)
        c_optimizer.zero_grad()
        c_loss.backward()
        c_optimizer.step()

    g_loss = -critic(generator(torch.randn(128, n_noise))).mean()
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  critic {c_loss.item():.4f}  generator {g_loss.item():.4f}  distance {distance():.4f}")

print(f"final_loss {distance():.4f}")
