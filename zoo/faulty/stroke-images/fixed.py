"""Classify 8x8 pictures by the direction of the stroke in them."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(21)

side = 8
row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")


def pictures(n):
    label = torch.randint(0, 4, (n,))
    shift = torch.randint(1, side - 1, (n, 1, 1))
    line = torch.stack(
        [
            (row == shift).float(),
            (col == shift).float(),
            ((row - col).abs() == (shift - 4)).float(),
            ((row + col - 7).abs() == (shift - 4)).float(),
        ],
        dim=1,
    )
    image = line[torch.arange(n), label] + 0.4 * torch.randn(n, side, side)
    return ((image - 0.1) / 0.5).unsqueeze(1), label


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.fc = nn.Linear(24 * 4, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.avg_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(x.flatten(1))


x_train, y_train = pictures(4000)
x_test, y_test = pictures(1000)
model = ConvNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)

for step in range(300):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
