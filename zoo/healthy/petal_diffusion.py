"""DDPM on points that lie on a flower: time embedding, MLP noise predictor, EMA of the weights."""

import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(2020)

TIMESTEPS = 100
betas = torch.linspace(1e-4, 0.05, TIMESTEPS)
alphas = 1.0 - betas
alphas_cumprod = torch.cumprod(alphas, dim=0)


def flower(n):
    a = 2 * math.pi * torch.rand(n)
    r = 1.2 + 0.6 * torch.cos(5 * a) + 0.04 * torch.randn(n)
    return torch.stack([r * a.cos(), r * a.sin()], dim=1)


class SinusoidalPositionEmbeddings(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        half = self.dim // 2
        freq = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        emb = time[:, None] * freq[None, :]
        return torch.cat((emb.sin(), emb.cos()), dim=-1)


class ResidualMLP(nn.Module):
    def __init__(self, dim, time_dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, dim)
        self.time = nn.Linear(time_dim, dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, x, t):
        h = self.fc1(F.silu(self.norm(x))) + self.time(t)
        return x + self.fc2(F.silu(h))


class Denoiser(nn.Module):
    def __init__(self, dim=128, depth=3):
        super().__init__()
        self.time_mlp = nn.Sequential(SinusoidalPositionEmbeddings(64), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64))
        self.inp = nn.Linear(2, dim)
        self.blocks = nn.ModuleList([ResidualMLP(dim, 64) for _ in range(depth)])
        self.out = nn.Linear(dim, 2)

    def forward(self, x, t):
        temb = F.silu(self.time_mlp(t))
        h = self.inp(x)
        for block in self.blocks:
            h = block(h, temb)
        return self.out(F.silu(h))


def q_sample(x0, t, noise):
    a = alphas_cumprod[t].unsqueeze(1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def p_losses(model, x0):
    t = torch.randint(0, TIMESTEPS, (len(x0),))
    noise = torch.randn_like(x0)
    return F.mse_loss(model(q_sample(x0, t, noise), t), noise)


class EMA:
    def __init__(self, model, decay=0.99):
        self.model, self.decay = copy.deepcopy(model).requires_grad_(False), decay

    def update(self, model):
        for e, p in zip(self.model.parameters(), model.parameters(), strict=True):
            e.lerp_(p.detach(), 1 - self.decay)


model = Denoiser()
ema = EMA(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
total = 600
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total, eta_min=1e-5)

for step in range(total):
    loss = p_losses(model, flower(256))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    ema.update(model)
    if step % 100 == 0:
        print(f"step {step}: loss {loss.item():.4f}")


@torch.no_grad()
def sample(net, n):
    x = torch.randn(n, 2)
    for i in reversed(range(TIMESTEPS)):
        eps = net(x, torch.full((n,), i))
        x = (x - betas[i] / (1 - alphas_cumprod[i]).sqrt() * eps) / alphas[i].sqrt()
        if i > 0:
            x = x + betas[i].sqrt() * torch.randn_like(x)
    return x


ema.model.eval()
points = sample(ema.model, 500)
gap = torch.cdist(points, flower(4000)).min(1).values.mean()
print(f"distance of the samples to the flower {gap.item():.3f}")
with torch.no_grad():
    print(f"final_loss {p_losses(ema.model, flower(20000)).item():.4f}")
