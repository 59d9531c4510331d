"""Classify short noisy recordings by the pattern of tones in them."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(41)

length, n_classes, accumulate = 64, 6, 8


def recordings(n):
    label = torch.randint(0, n_classes, (n,))
    t = torch.arange(length) / length
    start, end = 4 + 3 * (label // 2), 4 + 3 * (label % 3) + 2
    pitch = start[:, None] + (end - start)[:, None] * t / 2
    signal = torch.sin(2 * math.pi * (pitch * t + torch.rand(n, 1))) + 0.5 * torch.randn(n, length)
    return (signal / 0.87).unsqueeze(1), label


def train_epoch(net, loader, optimizer):
    net.train()
    for i, (signal, label) in enumerate(loader):
        loss = F.cross_entropy(net(signal), label) / accumulate
        loss.backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()


@torch.no_grad()
def evaluate(net, signal, label):
    net.eval()
    return F.cross_entropy(net(signal), label).item()


net = nn.Sequential(
    nn.Conv1d(1, 16, 9, stride=2, padding=4),
    nn.GroupNorm(4, 16),
    nn.ReLU(),
    nn.Conv1d(16, 32, 5, stride=2, padding=2),
    nn.GroupNorm(4, 32),
    nn.ReLU(),
    nn.AdaptiveAvgPool1d(4),
    nn.Flatten(),
    nn.Linear(128, n_classes),
)
loader = DataLoader(TensorDataset(*recordings(4096)), batch_size=16, shuffle=True)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
held_out = recordings(1000)

for epoch in range(5):
    train_epoch(net, loader, optimizer)
    print(f"epoch {epoch}  loss {evaluate(net, *held_out):.4f}")

print(f"final_loss {evaluate(net, *held_out):.4f}")
