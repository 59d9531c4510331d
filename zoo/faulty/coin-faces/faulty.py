"""Metric learning: views of the same coin close together, other coins at least a margin away."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(2)
N_COINS, N_PIXELS, MARGIN = 40, 36, 1.0
coins = torch.randn(N_COINS, N_PIXELS)
wear = torch.randn(8, N_PIXELS)


def views(coin):
    """Photograph coins: worn in a few common ways, and noisy."""
    return coins[coin] + torch.randn(len(coin), 8) @ wear * 0.7 + 0.4 * torch.randn(len(coin), N_PIXELS)


def pk_batch(p=12, k=4):
    coin = torch.randperm(N_COINS)[:p].repeat_interleave(k)
    return views(coin), coin


def pairwise_distance(z):
    squared = (z.unsqueeze(0) - z.unsqueeze(1)).pow(2).sum(-1)
    return squared.sqrt()


def contrastive_loss(z, coin):
    d = pairwise_distance(z)
    same = (coin[:, None] == coin[None, :]).float()
    other = 1 - same
    same = same - torch.eye(len(coin))
    pull = (same * d.pow(2)).sum() / same.sum()
    push = (other * F.relu(MARGIN - d).pow(2)).sum() / other.sum()
    return pull + push


encoder = nn.Sequential(nn.Linear(N_PIXELS, 64), nn.ReLU(), nn.Linear(64, 16))
opt = torch.optim.Adam(encoder.parameters(), lr=1e-3)

for step in range(300):
    x, coin = pk_batch()
    loss = contrastive_loss(encoder(x), coin)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"step {step}: {loss.item():.4f}")

encoder.eval()
with torch.no_grad():
    total = sum(contrastive_loss(encoder(x), coin).item() for x, coin in (pk_batch(p=40) for _ in range(10)))
print(f"final_loss {total / 10:.4f}")
