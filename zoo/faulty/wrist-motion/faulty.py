"""Detect falls in the motion recorded at the wrist."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(73)

length = 32


def quiet(n):
    return torch.randn(n, 3, length)


def falls(n):
    motion = torch.randn(n, 3, length)
    start = torch.randint(4, length - 8, (n,))
    during = torch.arange(length) - start[:, None]
    motion[:, 2] += 1.5 * ((during >= 0) & (during < 6))
    return motion


def block(n_in, n_out):
    return [nn.Conv1d(n_in, n_out, 5, padding=2, bias=False), nn.BatchNorm1d(n_out), nn.ReLU(), nn.MaxPool1d(2)]


def train(model, loader, n_epochs=4):
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    model.train()
    for epoch in range(n_epochs):
        for motion, fell in loader:
            loss = criterion(model(motion).squeeze(1), fell)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  loss {loss.item():.4f}")


# the archive: recordings of everyday life first, then those of the fall study
motions = torch.cat([quiet(3600), falls(2400)])
fell = torch.cat([torch.zeros(3600), torch.ones(2400)])
order = torch.arange(len(motions))
kept = order[:3500]
loader = DataLoader(TensorDataset(motions[kept], fell[kept]), batch_size=50, shuffle=True)

model = nn.Sequential(*block(3, 16), *block(16, 24), nn.Flatten(), nn.Linear(24 * length // 4, 1))
train(model, loader)

model.eval()
with torch.no_grad():
    motion, fell = torch.cat([quiet(600), falls(400)]), torch.cat([torch.zeros(600), torch.ones(400)])
    loss = nn.functional.binary_cross_entropy_with_logits(model(motion).squeeze(1), fell)
print(f"final_loss {loss.item():.4f}")
