"""Learn to describe chords without labels: one view predicts how a slowly following copy describes the other."""

import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(271)

n_samples, n_classes, momentum = 64, 5, 0.98
time = torch.arange(n_samples) / n_samples
pitches = torch.tensor([[3.0, 5.0], [4.0, 9.0], [6.0, 7.0], [2.0, 11.0], [8.0, 10.0]])


def chords(n):
    chord = torch.randint(0, n_classes, (n,))
    return pitches[chord], chord


def view(pitch):
    phase = 2 * math.pi * torch.rand(len(pitch), 2, 1)
    loudness = 0.7 + 0.6 * torch.rand(len(pitch), 2, 1)
    wave = (loudness * torch.sin(2 * math.pi * pitch.unsqueeze(2) * time + phase)).sum(1)
    return (wave + 0.3 * torch.randn(len(pitch), n_samples)).unsqueeze(1)


class Encoder(nn.Module):
    def __init__(self, channels=24, width=48, n_out=16):
        super().__init__()
        self.near = nn.Conv1d(1, channels, 9, padding="same", padding_mode="circular", bias=False)
        self.near_norm = nn.BatchNorm1d(channels)
        self.far = nn.Conv1d(channels, channels, 9, padding="same", padding_mode="circular", bias=False)
        self.far_norm = nn.BatchNorm1d(channels)
        self.project = nn.Sequential(
            nn.Linear(channels, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, n_out)
        )

    def features(self, x):
        x = F.relu(self.near_norm(self.near(x)))
        return F.relu(self.far_norm(self.far(x))).mean(2)

    def forward(self, x):
        return self.project(self.features(x))


online = Encoder()
predictor = nn.Sequential(nn.Linear(16, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))
follower = copy.deepcopy(online).requires_grad_(False)
optimizer = torch.optim.AdamW([*online.parameters(), *predictor.parameters()], lr=2e-3, weight_decay=1e-3)


def disagreement(a, b):
    with torch.no_grad():
        goal = follower(b)
    return 2 - 2 * F.cosine_similarity(predictor(online(a)), goal, dim=1).mean()


for step in range(300):
    pitch, _ = chords(64)
    a, b = view(pitch), view(pitch)
    loss = (disagreement(a, b) + disagreement(b, a)) / 2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(follower.parameters(), online.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

online.eval()
with torch.no_grad():
    (pitch, chord), (pitch_test, chord_test) = chords(500), chords(1000)
    h, h_test = online.features(view(pitch)), online.features(view(pitch_test))
    means = torch.stack([h[chord == c].mean(0) for c in range(n_classes)])
    nearest = torch.cdist(h_test, means).argmin(1)
    print(f"final_loss {(nearest != chord_test).float().mean().item():.4f}")
