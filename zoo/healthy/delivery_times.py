"""Predict the 10 %, 50 % and 90 % quantiles of delivery times."""

import torch
import torch.nn as nn

torch.manual_seed(243)

quantiles = torch.tensor([0.1, 0.5, 0.9])


def deliveries(n):
    x = torch.randn(n, 6)
    usual = 0.8 * x[:, 0] + 0.5 * torch.sin(2 * x[:, 1]) + 0.4 * x[:, 2].abs()
    spread = 0.1 + 0.4 * torch.sigmoid(2 * x[:, 3])
    return x, usual + spread * (torch.randn(n).exp() - 1)


def pinball(prediction, target):
    error = target.unsqueeze(1) - prediction
    return torch.maximum(quantiles * error, (quantiles - 1) * error).sum(1).mean()


class QuantileNet(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(6, width), nn.Hardswish(), nn.Linear(width, width), nn.Hardswish())
        self.middle = nn.Linear(width, 1)
        self.gaps = nn.Linear(width, 2)

    def forward(self, x):
        h = self.hidden(x)
        middle, gaps = self.middle(h), nn.functional.softplus(self.gaps(h))
        return torch.cat([middle - gaps[:, :1], middle, middle + gaps[:, 1:]], dim=1)


model = QuantileNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(400):
    x, y = deliveries(64)
    loss = pinball(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = deliveries(3000)
    print(f"final_loss {pinball(model(x), y).item():.4f}")
