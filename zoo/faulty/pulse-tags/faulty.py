"""Tag every moment of a noisy signal with the kind of pulse that is passing."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(31)

length, n_kinds = 32, 4
t = torch.arange(9) / 8
shapes = torch.stack([torch.sin(3.14159 * t), 1 - (2 * t - 1).abs(), torch.sin(6.28318 * t)])


def recordings(n):
    signal, tags = torch.zeros(n, length), torch.zeros(n, length, dtype=torch.long)
    for offset in (0, 16):
        kind = torch.randint(0, n_kinds, (n,))
        start = torch.randint(0, 7, (n,)) + offset
        place = start[:, None] + torch.arange(9)
        pulse = torch.cat([torch.zeros(1, 9), shapes])[kind]
        signal.scatter_add_(1, place, pulse)
        tags.scatter_(1, place, kind[:, None].expand(-1, 9))
    return ((signal + 0.25 * torch.randn(n, length)) / 0.5 - 0.3).unsqueeze(1), tags


def train(model, loader, optimizer, epochs):
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for signal, tags in loader:
            loss = F.cross_entropy(model(signal), tags)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}  loss {total / len(loader):.4f}")


def evaluate(model, signal, tags):
    model.eval()
    with torch.no_grad():
        return F.cross_entropy(model(signal), tags).item()


model = nn.Sequential(
    nn.Conv1d(1, 24, 5, padding=2, bias=False),
    nn.GroupNorm(4, 24),
    nn.SiLU(),
    nn.Conv1d(24, 24, 5, padding=2, bias=False),
    nn.GroupNorm(4, 24),
    nn.SiLU(),
    nn.Conv1d(24, 24, 5, padding=2, bias=False),
    nn.GroupNorm(4, 24),
    nn.SiLU(),
    nn.Conv1d(24, n_kinds, 1),
)
loader = DataLoader(TensorDataset(*recordings(2400)), batch_size=48, shuffle=True)
optimizer = torch.optim.SGD(model.parameters(), lr=2.0, momentum=0.9, weight_decay=2e-3)
train(model, loader, optimizer, epochs=6)
print(f"final_loss {evaluate(model, *recordings(1500)):.4f}")
