"""Assign points in six dimensions to one of five nested rings with a deep batch-normalised network."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(31)

dim, n_rings = 6, 5
points = torch.randn(9000, dim)
radius = (points * torch.linspace(0.6, 1.4, dim)).norm(dim=1) + 0.1 * torch.randn(len(points))
ring = torch.bucketize(radius, radius.quantile(torch.linspace(0, 1, n_rings + 1)[1:-1]))


class RingNet(nn.Module):
    def __init__(self, width=32, depth=32):
        super().__init__()
        self.stem = nn.Linear(dim, width)
        self.linears = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(depth))
        self.head = nn.Linear(width, n_rings)
        self.depth = depth
        nn.init.normal_(self.head.weight, std=0.05)

    def forward(self, x):
        h = F.relu(self.stem(x))
        for linear, norm in zip(self.linears, self.norms, strict=True):
            h = h + F.relu(norm(linear(h))) / self.depth**0.5
        return self.head(h)


model = RingNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

for step in range(250):
    ix = torch.randint(0, 7000, (32,))
    loss = F.cross_entropy(model(points[ix]), ring[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(points[7000:]), ring[7000:]).item():.4f}")
