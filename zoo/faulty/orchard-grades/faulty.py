"""Sort fruit into three grades from twelve measurements."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(41)


def harvest(n):
    x = torch.randn(n, 12)
    quality = x[:, 0] * x[:, 1] + x[:, 2] - x[:, 3].abs() + 0.5 * x[:, 4] + 0.2 * torch.randn(n)
    return x, torch.bucketize(quality, torch.tensor([-1.3, 0.0]))


train = DataLoader(TensorDataset(*harvest(1200)), batch_size=4, shuffle=True)
x_test, y_test = harvest(2000)

model = nn.Sequential(
    nn.Linear(12, 64, bias=False),
    nn.BatchNorm1d(64),
    nn.ReLU(),
    nn.Linear(64, 64, bias=False),
    nn.BatchNorm1d(64),
    nn.ReLU(),
    nn.Linear(64, 3),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)

for epoch in range(2):
    total = 0.0
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}  loss {total / len(train):.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
