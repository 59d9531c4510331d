"""Assign points of the plane to one of eight regions."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(27)


def regions(n):
    xy = torch.randn(n, 2)
    inside = (xy.norm(dim=1) < 1.1).long()
    return xy, 4 * inside + 2 * (xy[:, 0] > 0.3 * xy[:, 1].sin()).long() + (xy[:, 1] > xy[:, 0] ** 2 / 3).long()


class PointNet(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, width), nn.Linear(width, width)])
        self.out = nn.Linear(width, 8)
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight, gain=nn.init.calculate_gain("tanh"))
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.out(x)


train_loader = DataLoader(TensorDataset(*regions(5000)), batch_size=48, shuffle=True)
net = PointNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

for epoch in range(4):
    net.train()
    for x, y in train_loader:
        loss = F.cross_entropy(net(x), y, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

net.eval()
with torch.no_grad():
    points, label = regions(2000)
    print(f"final_loss {F.cross_entropy(net(points), label).item():.4f}")
