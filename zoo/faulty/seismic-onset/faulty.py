"""Find the onset of a tremor in 24 samples with a deep one-dimensional convolutional net."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(58)

length = 24


def records(n):
    onset = 2 + (length - 6) * torch.rand(n, 1)
    time = torch.arange(length) - onset
    tremor = torch.sigmoid(4 * time) * torch.sin(1.7 * time)
    signal = 2 * tremor + 0.3 * torch.randn(n, length)
    return signal.unsqueeze(1), (onset.flatten() - 11) / 5.2


class Stage(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, 3, padding=1, bias=False)

    def forward(self, x):
        return F.softplus(self.conv(x))


class OnsetNet(nn.Module):
    def __init__(self, width=16, depth=9):
        super().__init__()
        self.stages = nn.Sequential(Stage(1, width), *(Stage(width, width) for _ in range(depth - 1)))
        self.head = nn.Linear(width * length, 1)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, x):
        return self.head(self.stages(x).flatten(1)).squeeze(1)


def fit(net, steps):
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(steps):
        x, y = records(32)
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


net = OnsetNet()
fit(net, steps=200)
net.eval()
with torch.no_grad():
    x, y = records(1000)
    print(f"final_loss {F.mse_loss(net(x), y).item():.4f}")
