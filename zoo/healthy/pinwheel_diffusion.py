"""Denoising diffusion on a plane: points of a pinwheel. Keeps an exponential average of the weights."""

import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def pinwheel(n, rng, arms=5):
    features = rng.normal(size=(n, 2)) * np.array([0.3, 0.05])
    features[:, 0] += 1.0
    labels = rng.integers(0, arms, n)
    angle = 2 * math.pi * labels / arms + 0.6 * np.exp(features[:, 0])
    c, s = np.cos(angle), np.sin(angle)
    x = np.stack([features[:, 0] * c - features[:, 1] * s, features[:, 0] * s + features[:, 1] * c], axis=1)
    return torch.tensor(x * 1.3, dtype=torch.float32)


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        emb = t[:, None].float() * freqs[None, :]
        return torch.cat((emb.sin(), emb.cos()), dim=-1)


class Block(nn.Module):
    def __init__(self, dim, t_dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.t_proj = nn.Linear(t_dim, dim)
        self.ff = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, x, t):
        return x + self.ff(self.norm(x) + self.t_proj(t))


class Denoiser(nn.Module):
    def __init__(self, dim=96, t_dim=32, depth=3):
        super().__init__()
        self.time_mlp = nn.Sequential(SinusoidalPosEmb(t_dim), nn.Linear(t_dim, t_dim), nn.SiLU())
        self.inp = nn.Linear(2, dim)
        self.blocks = nn.ModuleList(Block(dim, t_dim) for _ in range(depth))
        self.out = nn.Linear(dim, 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, t):
        t = self.time_mlp(t)
        h = self.inp(x)
        for block in self.blocks:
            h = block(h, t)
        return self.out(h)


class GaussianDiffusion(nn.Module):
    def __init__(self, model, timesteps=100):
        super().__init__()
        self.model = model
        self.timesteps = timesteps
        betas = torch.linspace(1e-3, 0.07, timesteps)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self.register_buffer("betas", betas)
        self.register_buffer("sqrt_ac", alphas_cumprod.sqrt())
        self.register_buffer("sqrt_om_ac", (1 - alphas_cumprod).sqrt())

    def forward(self, x0):
        t = torch.randint(0, self.timesteps, (len(x0),))
        noise = torch.randn_like(x0)
        x_t = self.sqrt_ac[t, None] * x0 + self.sqrt_om_ac[t, None] * noise
        return F.mse_loss(self.model(x_t, t), noise)

    @torch.no_grad()
    def sample(self, n):
        x = torch.randn(n, 2)
        for i in reversed(range(self.timesteps)):
            t = torch.full((n,), i)
            beta = self.betas[i]
            x = (x - beta / self.sqrt_om_ac[i] * self.model(x, t)) / (1 - beta).sqrt()
            if i > 0:
                x = x + beta.sqrt() * torch.randn_like(x)
        return x


class EMA:
    def __init__(self, model, decay=0.98):
        self.decay = decay
        self.shadow = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for s, p in zip(self.shadow.parameters(), model.parameters(), strict=True):
            s.lerp_(p, 1 - self.decay)


def main():
    torch.manual_seed(8)
    rng = np.random.default_rng(8)
    data = pinwheel(20000, rng)
    diffusion = GaussianDiffusion(Denoiser())
    ema = EMA(diffusion)
    optimizer = torch.optim.AdamW(diffusion.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=600)
    for step in range(600):
        batch = data[torch.randint(0, len(data), (256,))]
        loss = diffusion(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        ema.update(diffusion)
        if step % 100 == 0:
            print(f"step {step:4d} loss {loss.item():.4f}")

    points = ema.shadow.sample(1000)
    print(f"mean radius of samples {points.norm(dim=1).mean():.3f}, of the data {data.norm(dim=1).mean():.3f}")
    with torch.no_grad():
        held_out = pinwheel(10000, rng)
        print(f"final_loss {ema.shadow(held_out).item():.4f}")


if __name__ == "__main__":
    main()
