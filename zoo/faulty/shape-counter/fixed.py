"""Count the bright squares in 12x12 pictures."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(103)

side, most = 12, 3


def pictures(n):
    count = torch.randint(0, most + 1, (n,))
    corners = torch.stack([torch.randperm(16)[:most] for _ in range(n)])
    grid = torch.zeros(n, 16)
    grid.scatter_(1, corners, (torch.arange(most) < count[:, None]).float())
    squares = F.interpolate(grid.view(n, 1, 4, 4), scale_factor=3.0) * 1.5
    images = squares + 0.5 * torch.randn(n, 1, side, side)
    return (images - 0.14) / 0.66, count


class Counter(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, stride=3, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.head = nn.Linear(2 * width, most + 1)

    def forward(self, images):
        x = F.silu(self.norm1(self.conv1(images)))
        x = F.silu(self.norm2(self.conv2(x)))
        return self.head(x.mean((2, 3)))


loader = DataLoader(TensorDataset(*pictures(3000)), batch_size=64, shuffle=True)
model = Counter()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

for step in range(300):
    images, count = next(iter(loader))
    loss = F.cross_entropy(model(images), count)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    images, count = pictures(1000)
    print(f"final_loss {F.cross_entropy(model(images), count).item():.4f}")
