"""Tell the roast of a coffee from its near-infrared spectrum."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    n_roasts: int = 6
    n_bands: int = 64
    hidden: int = 96
    batch_size: int = 64
    epochs: int = 10
    lr: float = 1e-3
    seed: int = 3


class RoastNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.fc1 = nn.Linear(cfg.n_bands, cfg.hidden)
        self.fc2 = nn.Linear(cfg.hidden, cfg.hidden)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(cfg.hidden, cfg.n_roasts)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = self.drop(torch.relu(self.fc2(x)))
        return torch.softmax(self.out(x), dim=1)


def make_spectra(cfg, n, rng):
    bands = np.linspace(0, 1, cfg.n_bands)
    roast = rng.integers(0, cfg.n_roasts, n)
    centre = 0.25 + 0.08 * roast[:, None] + 0.035 * rng.standard_normal((n, 1))
    second = 0.7 - 0.03 * roast[:, None] + 0.03 * rng.standard_normal((n, 1))
    height = 1 + 0.2 * rng.standard_normal((n, 1))
    s = height * np.exp(-(((bands - centre) / 0.09) ** 2)) + 0.6 * np.exp(-(((bands - second) / 0.12) ** 2))
    s += 0.1 * rng.standard_normal((n, cfg.n_bands)) + 0.3 * rng.standard_normal((n, 1)) * bands
    return s.astype(np.float32), roast


def evaluate(model, loader, criterion):
    model.eval()
    total, right, count = 0.0, 0, 0
    with torch.no_grad():
        for x, y in loader:
            out = model(x)
            total += criterion(out, y).item() * len(y)
            right += (out.argmax(1) == y).sum().item()
            count += len(y)
    return total / count, right / count


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    rng = np.random.default_rng(cfg.seed)
    x, y = make_spectra(cfg, 4000, rng)
    x = (x - x[:3200].mean(0)) / x[:3200].std(0)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    train = DataLoader(TensorDataset(x[:3200], y[:3200]), batch_size=cfg.batch_size, shuffle=True)
    test = DataLoader(TensorDataset(x[3200:], y[3200:]), batch_size=400)

    model = RoastNet(cfg)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    for epoch in range(cfg.epochs):
        model.train()
        for xb, yb in train:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
        val_loss, accuracy = evaluate(model, test, criterion)
        print(f"epoch {epoch + 1}: val loss {val_loss:.4f}, accuracy {accuracy:.3f}")
    print(f"final_loss {val_loss:.4f}")


if __name__ == "__main__":
    main()
