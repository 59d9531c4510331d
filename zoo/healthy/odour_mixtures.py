"""Rebuild the readings of forty odour sensors from a sparse code: few of its units speak for any one mixture."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(263)

n_sensors, n_odours, n_present = 40, 64, 3
response = F.normalize(torch.randn(n_odours, n_sensors), dim=1) * 3.5


def readings(n):
    present = torch.rand(n, n_odours).topk(n_present, dim=1).indices
    strength = torch.zeros(n, n_odours).scatter_(1, present, 0.5 + torch.rand(n, n_present))
    return strength @ response + 0.1 * torch.randn(n, n_sensors)


class SparseCoder(nn.Module):
    def __init__(self, n_codes=96):
        super().__init__()
        self.encode = nn.Linear(n_sensors, n_codes)
        self.decode = nn.Linear(n_codes, n_sensors)

    def forward(self, x):
        code = F.relu(self.encode(x))
        return self.decode(code), code


model = SparseCoder()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for step in range(600):
    x = readings(256)
    rebuilt, code = model(x)
    loss = F.mse_loss(rebuilt, x) + 0.03 * code.sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}  units at zero {(code == 0).float().mean():.3f}")

model.eval()
with torch.no_grad():
    x = readings(4000)
    print(f"final_loss {F.mse_loss(model(x)[0], x).item():.4f}")
