"""Two towers that bring a song and its cover version together, with the other songs of the batch as negatives."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--dim", type=int, default=128)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--iters", type=int, default=400)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--wd", type=float, default=1e-2)
    p.add_argument("--seed", type=int, default=21)
    return p.parse_args()


class Tower(nn.Module):
    def __init__(self, n_in, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_in, 128), nn.GELU(), nn.Linear(128, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        return self.norm(self.net(x))


def similarity(a, b):
    """All songs against all covers."""
    return a @ b.t() / math.sqrt(a.size(1))


def make_songs(n, n_style=10, n_audio=40):
    g = torch.Generator().manual_seed(4)
    to_song = torch.randn(n_style, n_audio, generator=g) / math.sqrt(n_style)
    to_cover = torch.randn(n_style, n_audio, generator=g) / math.sqrt(n_style)
    tune = torch.randn(n, n_style)
    played = tune + 0.3 * torch.randn(n, n_style)
    song = torch.tanh(1.5 * tune @ to_song) + 0.4 * torch.randn(n, n_audio)
    cover = torch.tanh(1.5 * played @ to_cover) + 0.4 * torch.randn(n, n_audio)
    return song / song.std(), cover / cover.std()


args = parse()
torch.manual_seed(args.seed)
song, cover = make_songs(6000)
n_train = 5360
song_tower, cover_tower = Tower(40, args.dim), Tower(40, args.dim)
params = [*song_tower.parameters(), *cover_tower.parameters()]
optimizer = torch.optim.AdamW(params, lr=args.lr, weight_decay=args.wd)
target = torch.arange(args.batch)

for it in range(args.iters):
    rows = torch.randperm(n_train)[: args.batch]
    scores = similarity(song_tower(song[rows]), cover_tower(cover[rows]))
    loss = F.cross_entropy(scores, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 50 == 0:
        top1 = (scores.argmax(1) == target).float().mean().item()
        print(f"it {it:3d} loss {loss.item():.3f} top-1 {top1:.2f}")

song_tower.eval()
cover_tower.eval()
held_out = []
with torch.no_grad():
    for rows in torch.arange(n_train, 6000).split(args.batch):
        held_out.append(F.cross_entropy(similarity(song_tower(song[rows]), cover_tower(cover[rows])), target))
print(f"final_loss {torch.stack(held_out).mean().item():.4f}")
