"""Flag the few electricity meters whose half-hourly load profile shows tampering."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(99)
torch.manual_seed(99)


def profiles(n, rate=0.04):
    t = np.arange(48)
    base = 0.25 + 0.15 * rng.random((n, 1))
    morning = rng.gamma(4, 0.2, (n, 1)) * np.exp(-((t - 15 - rng.normal(0, 1, (n, 1))) ** 2) / 8)
    evening = rng.gamma(6, 0.25, (n, 1)) * np.exp(-((t - 38 - rng.normal(0, 1.5, (n, 1))) ** 2) / 18)
    load = (base + morning + evening) * rng.lognormal(0, 0.25, (n, 48))
    y = rng.random(n) < rate
    for i in np.flatnonzero(y):
        start, length = rng.integers(10, 34), rng.integers(5, 12)
        load[i, start : start + length] = 0.08 + 0.02 * rng.random(length)
    return torch.tensor(np.log(load), dtype=torch.float32).unsqueeze(1), torch.tensor(y, dtype=torch.float32)


class ProfileNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, width, 5, padding=2),
            nn.BatchNorm1d(width),
            nn.LeakyReLU(0.1),
            nn.MaxPool1d(2),
            nn.Conv1d(width, width, 5, padding=2),
            nn.BatchNorm1d(width),
            nn.LeakyReLU(0.1),
            nn.AdaptiveMaxPool1d(4),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * width, 1))

    def forward(self, x):
        return self.head(self.features(x)).squeeze(1)


x, y = profiles(8000)
x_test, y_test = profiles(4000)
mean, std = x.mean(), x.std()
x, x_test = (x - mean) / std, (x_test - mean) / std

pos_weight = (y == 0).sum() / (y == 1).sum()
print(f"{int(y.sum())} of {len(y)} tampered, weight {pos_weight:.1f}")
criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)

net = ProfileNet()
opt = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
loader = DataLoader(TensorDataset(x, y), batch_size=128, shuffle=True)

for epoch in range(5):
    net.train()
    losses = []
    for xb, yb in loader:
        loss = criterion(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())

    net.eval()
    with torch.no_grad():
        logits = net(x_test)
        order = logits.argsort(descending=True)
        hits = y_test[order[: int(y_test.sum())]].mean()
        test_loss = criterion(logits, y_test).item()
    print(f"epoch {epoch + 1}: train {np.mean(losses):.3f}, test {test_loss:.3f}, precision at k {hits:.3f}")

print(f"final_loss {test_loss:.4f}")
