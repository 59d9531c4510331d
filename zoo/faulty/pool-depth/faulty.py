"""Estimate how deep a dark pool is from a 12x12 picture of it."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(42)

side, batch_size, micro_batch = 12, 64, 4
row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")


def pools(n):
    centre = torch.randint(3, side - 3, (n, 2, 1, 1))
    radius = 1 + 3 * torch.rand(n, 1, 1)
    shade = 0.5 + torch.rand(n, 1, 1)
    distance = ((row - centre[:, 0]) ** 2 + (col - centre[:, 1]) ** 2).sqrt()
    image = shade * torch.sigmoid(2 * (distance - radius)) + 0.1 * torch.randn(n, side, side)
    depth = (radius * (1.5 - shade)).flatten()
    return ((image - 0.85) / 0.42).unsqueeze(1), (depth - 1.25) / 0.85


class DepthNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.fc = nn.Linear(24 * 9, 48, bias=False)
        self.norm = nn.BatchNorm1d(48)
        self.head = nn.Linear(48, 1)

    def forward(self, x):
        x = F.leaky_relu(self.conv1(x), 0.1)
        x = F.leaky_relu(self.conv2(x), 0.1)
        x = F.leaky_relu(self.norm(self.fc(x.flatten(1))), 0.1)
        return self.head(x).squeeze(1)


x_train, y_train = pools(4000)
x_test, y_test = pools(1000)
model = DepthNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
chunks = batch_size // micro_batch

for step in range(200):
    ix = torch.randint(0, len(x_train), (batch_size,))
    optimizer.zero_grad()
    total = 0.0
    for part in ix.chunk(chunks):
        loss = F.mse_loss(model(x_train[part]), y_train[part]) / chunks
        loss.backward()
        total += loss.item()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {total:.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(x_test), y_test).item():.4f}")
