"""Train a sales model on one year, save it to a file, load it in a new network and train on with the next year."""

import tempfile
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(206)

n_grades, n_features = 5, 14
taste = torch.randn(n_features, n_grades)
drift = 0.4 * torch.randn(n_features, n_grades)


def sales(n, year):
    x = torch.randn(n, n_features)
    score = x @ (taste + year * drift) + 1.5 * torch.sin(2 * x[:, :n_grades]) + 0.5 * torch.randn(n, n_grades)
    return x, score.argmax(1)


def build():
    return nn.Sequential(nn.Linear(n_features, 64), nn.SiLU(), nn.LayerNorm(64), nn.Linear(64, n_grades))


def train(model, lr, steps, year):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(steps):
        x, y = sales(64, year)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"year {year}  step {step:4d}  loss {loss.item():.4f}")


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "sales.pt"
    first = build()
    train(first, 3e-3, 300, 0)
    torch.save({"model": first.state_dict(), "year": 0}, path)

    checkpoint = torch.load(path, weights_only=True)
    model = build()
    model.load_state_dict(checkpoint["model"])
    train(model, 5e-4, 200, checkpoint["year"] + 1)

model.eval()
with torch.no_grad():
    x, y = sales(2000, 1)
    print(f"final_loss {F.cross_entropy(model(x), y).item():.4f}")
