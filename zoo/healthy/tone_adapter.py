"""Learn to name chords, freeze the network, then adapt it to a detuned instrument by low-rank corrections."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(203)

n_bins, n_chords = 24, 8
bins = torch.linspace(0, 1, n_bins)
roots = torch.linspace(0.05, 0.5, n_chords)


def chords(n, detune=0.0):
    chord = torch.randint(0, n_chords, (n,))
    third = torch.where(chord % 2 == 0, 0.20, 0.26)
    tones = torch.stack([roots[chord], roots[chord] + third, roots[chord] + 0.4], dim=1) + detune
    spectrum = torch.exp(-(((bins - tones.unsqueeze(2)) / 0.03) ** 2)).sum(dim=1)
    return (spectrum + 0.3 * torch.randn(n, n_bins) - 0.2) / 0.5, chord


class LowRank(nn.Module):
    """A frozen linear layer plus a trainable product of two thin matrices."""

    def __init__(self, linear, rank=4, alpha=8.0):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / math.sqrt(linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x):
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)


def fit(model, optimizer, steps, detune):
    for step in range(steps):
        x, y = chords(64, detune)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


model = nn.Sequential(nn.Linear(n_bins, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, n_chords))
fit(model, torch.optim.Adam(model.parameters(), lr=1e-3), 200, 0.0)

for i in (0, 2, 4):
    model[i] = LowRank(model[i])
adapters = [p for p in model.parameters() if p.requires_grad]
fit(model, torch.optim.AdamW(adapters, lr=2e-3), 250, 0.03)

model.eval()
with torch.no_grad():
    x, y = chords(2000, 0.03)
    print(f"final_loss {F.cross_entropy(model(x), y).item():.4f}")
