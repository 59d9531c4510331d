"""Bootstrap your own latent on rope and cloth textures; a linear probe says how good the features are."""

import copy
import math
from itertools import chain

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(55)
N_CLASSES = 6


def textures(n):
    y = torch.randint(0, N_CLASSES, (n,))
    ys, xs = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    angle = math.pi * (y % 3).view(n, 1, 1) / 3 + 0.15 * torch.randn(n, 1, 1)
    period = torch.where(y < 3, 4.0, 8.0).view(n, 1, 1) * (0.9 + 0.2 * torch.rand(n, 1, 1))
    wave = torch.sin(2 * math.pi * (xs * angle.cos() + ys * angle.sin()) / period + 6.3 * torch.rand(n, 1, 1))
    return (wave + 0.7 * torch.randn(n, 24, 24)).unsqueeze(1), y


def augment(x):
    n = len(x)
    top, left = torch.randint(0, 9, (2,)).tolist()
    x = x[:, :, top : top + 16, left : left + 16]
    x = x * (0.6 + 0.8 * torch.rand(n, 1, 1, 1)) + 0.3 * torch.randn(n, 1, 1, 1)
    return x + 0.3 * torch.randn_like(x)


def mlp(n_in, n_hidden, n_out):
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.BatchNorm1d(n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.projector = mlp(32, 64, 32)

    def forward(self, x):
        return self.projector(self.net(x))


online, predictor = Encoder(), mlp(32, 64, 32)
target = copy.deepcopy(online)
for p in target.parameters():
    p.requires_grad = False

total_steps, base_tau = 250, 0.97
optimizer = torch.optim.Adam(chain(online.parameters(), predictor.parameters()), lr=2e-3, weight_decay=1e-5)


def regression_loss(p, z):
    return 2 - 2 * F.cosine_similarity(p, z, dim=-1).mean()


for step in range(total_steps):
    x, _ = textures(64)
    one, two = augment(x), augment(x)
    p1, p2 = predictor(online(one)), predictor(online(two))
    with torch.no_grad():
        z1, z2 = target(one), target(two)
    loss = regression_loss(p1, z2) + regression_loss(p2, z1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    tau = 1 - (1 - base_tau) * (math.cos(math.pi * step / total_steps) + 1) / 2
    with torch.no_grad():
        for t, o in zip(target.parameters(), online.parameters(), strict=True):
            t.mul_(tau).add_(o, alpha=1 - tau)
    if step % 50 == 0:
        with torch.no_grad():
            spread = F.normalize(z1, dim=1).std(0).mean().item() * math.sqrt(z1.size(1))
        print(f"step {step:4d}  loss {loss.item():.4f}  spread {spread:.3f}")

# linear evaluation on frozen features
online.eval()
with torch.no_grad():
    x_train, y_train = textures(600)
    x_test, y_test = textures(1000)
    f_train, f_test = online.net(x_train[:, :, 4:20, 4:20]), online.net(x_test[:, :, 4:20, 4:20])
    mean, std = f_train.mean(0), f_train.std(0) + 1e-6
    f_train, f_test = (f_train - mean) / std, (f_test - mean) / std

probe = nn.Linear(32, N_CLASSES)
probe_optimizer = torch.optim.Adam(probe.parameters(), lr=1e-2, weight_decay=1e-4)
for _ in range(150):
    loss = F.cross_entropy(probe(f_train), y_train)
    probe_optimizer.zero_grad()
    loss.backward()
    probe_optimizer.step()

with torch.no_grad():
    out = probe(f_test)
    print(f"probe accuracy {(out.argmax(1) == y_test).float().mean().item():.3f}")
    print(f"final_loss {F.cross_entropy(out, y_test).item():.4f}")
