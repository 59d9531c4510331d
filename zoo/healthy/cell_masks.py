"""Outline round cells in noisy pictures with a small U-shaped network."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(229)

side = 16
row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")


def slides(n):
    centre = torch.randint(2, side - 2, (n, 3, 2, 1, 1))
    radius = 1.5 + 2 * torch.rand(n, 3, 1, 1)
    inside = ((row - centre[:, :, 0]) ** 2 + (col - centre[:, :, 1]) ** 2) < radius**2
    mask = inside.any(1, keepdim=True).float()
    shade = 0.5 * torch.randn(n, 1, 1, 1)
    return (mask - 0.2 + shade + 0.6 * torch.randn(n, 1, side, side)), mask


def double_conv(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, c=6):
        super().__init__()
        self.enter = double_conv(1, c)
        self.deep = double_conv(c, 2 * c)
        self.up = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
        self.leave = double_conv(2 * c, c)
        self.mask = nn.Conv2d(c, 1, 1)

    def forward(self, x):
        skip = self.enter(x)
        deep = self.deep(F.max_pool2d(skip, 2))
        return self.mask(self.leave(torch.cat([skip, self.up(deep)], dim=1)))


model = UNet()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

for step in range(150):
    x, mask = slides(16)
    loss = F.binary_cross_entropy_with_logits(model(x), mask)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, mask = slides(300)
    print(f"final_loss {F.binary_cross_entropy_with_logits(model(x), mask).item():.4f}")
