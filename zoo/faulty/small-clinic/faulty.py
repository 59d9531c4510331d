"""Estimate the risk of relapse from the records of a small clinic."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(113)

n_features = 6


def patients(n):
    x = torch.randn(n, n_features)
    strength = 2 * x[:, 0] + 2 * x[:, 1] * (x[:, 2] > 0) - x[:, 3]
    return x, (torch.rand(n) < torch.sigmoid(1.5 * strength)).float()


model = nn.Sequential(
    nn.Linear(n_features, 32),
    nn.GELU(),
    nn.Linear(32, 1),
)
loader = DataLoader(TensorDataset(*patients(480)), batch_size=512, shuffle=True, drop_last=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

for epoch in range(20):
    model.train()
    for x, risk in loader:
        loss = F.binary_cross_entropy_with_logits(model(x).squeeze(1), risk)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print(f"epoch {epoch} of 20")

model.eval()
with torch.no_grad():
    x, risk = patients(2000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(model(x).squeeze(1), risk).item():.4f}")
