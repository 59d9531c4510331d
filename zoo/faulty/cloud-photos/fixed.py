"""Sort small sky photographs into five kinds of cloud."""

import math

import torch
import torch.nn as nn
import torch.optim as optim

CLASSES = ["cirrus", "cumulus", "stratus", "nimbus", "clear"]
LEARNING_RATE = 1e-3
BATCH_SIZE = 48
ITERATIONS = 350

torch.manual_seed(2024)


def sky(kind, size=16):
    """One grey photograph of a kind of cloud."""
    grid = torch.linspace(-1, 1, size)
    yy, xx = torch.meshgrid(grid, grid, indexing="ij")
    image = 0.3 * yy + 0.2 * torch.randn(())
    if kind == 0:
        angle = math.pi * (0.15 + 0.2 * torch.rand(()))
        image = image + 0.5 * torch.sin(12 * (xx * angle.cos() + yy * angle.sin()) + 6 * torch.rand(()))
    elif kind == 1:
        for _ in range(3):
            cx, cy = 1.6 * torch.rand(2) - 0.8
            image = image + 0.9 * torch.exp(-((xx - cx) ** 2 + (yy - cy) ** 2) / 0.05)
    elif kind == 2:
        image = image + 0.5 * torch.sin(10 * yy + 6 * torch.rand(()))
    elif kind == 3:
        cx, cy = 1.2 * torch.rand(2) - 0.6
        image = image - 1.0 * torch.exp(-((xx - cx) ** 2 + (yy - cy) ** 2) / 0.25)
    return image + 0.45 * torch.randn(size, size)


labels = torch.randint(0, 5, (2400,))
photos = torch.stack([sky(k) for k in labels.tolist()]).unsqueeze(1)
photos = (photos - photos[:2000].mean()) / photos[:2000].std()
x_train, y_train, x_val, y_val = photos[:2000], labels[:2000], photos[2000:], labels[2000:]


class CloudCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, len(CLASSES))
        self.relu = nn.ReLU()

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = x.view(x.size(0), -1)
        x = self.relu(self.fc1(x))
        return self.fc2(x)


net = CloudCNN()
criterion = nn.CrossEntropyLoss()
opt = optim.Adam(net.parameters(), lr=LEARNING_RATE)

running_loss = 0.0
for i in range(1, ITERATIONS + 1):
    picks = torch.randint(0, len(x_train), (BATCH_SIZE,))
    opt.zero_grad()
    loss = criterion(net(x_train[picks]), y_train[picks])
    loss.backward()
    opt.step()
    running_loss += loss.item()
    if i % 50 == 0:
        print(f"iteration {i} loss {running_loss / 50:.3f}")
        running_loss = 0.0

net.eval()
with torch.no_grad():
    out = net(x_val)
    print(f"accuracy {(out.argmax(1) == y_val).float().mean().item():.3f}")
    print(f"final_loss {criterion(out, y_val).item():.4f}")
