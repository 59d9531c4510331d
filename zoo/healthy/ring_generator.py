"""A generator and a discriminator play over points on a ring in the plane."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(208)

n_noise = 8


def ring(n):
    angle = 2 * math.pi * torch.rand(n)
    radius = 1.3 + 0.2 * torch.randn(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def energy_distance(a, b):
    return 2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()


generator = nn.Sequential(nn.Linear(n_noise, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
discriminator = nn.Sequential(
    nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
)
g_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.99))
d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.99))
real_test = ring(1000)
ones, zeros = torch.ones(128, 1), torch.zeros(128, 1)


def distance():
    generator.eval()
    with torch.no_grad():
        value = energy_distance(generator(torch.randn(1000, n_noise)), real_test).item()
    generator.train()
    return value


for step in range(450):
    real = ring(128)
    fake = generator(torch.randn(128, n_noise))

    d_loss = F.binary_cross_entropy_with_logits(discriminator(real), ones)
    d_loss = d_loss + F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
    d_optimizer.zero_grad()
    d_loss.backward()
    d_optimizer.step()

    g_loss = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    if step % 75 == 0:
        print(f"step {step:4d}  d {d_loss.item():.4f}  g {g_loss.item():.4f}  distance {distance():.4f}")

print(f"final_loss {distance():.4f}")
