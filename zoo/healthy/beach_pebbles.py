"""CIFAR-style ResNet on pebble pictures: SGD 0.1, momentum, weight decay 5e-4, multi-step schedule, augmentation."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

torch.manual_seed(1)


def pebbles(n, size=16):
    """Five kinds of stone: speckled, banded, veined, smooth with a dark rim, mottled."""
    g = torch.linspace(-1, 1, size)
    yy, xx = torch.meshgrid(g, g, indexing="ij")
    y = torch.randint(0, 5, (n,))
    cx, cy = 0.2 * torch.randn(2, n, 1, 1)
    rx, ry = 0.6 + 0.3 * torch.rand(2, n, 1, 1)
    r = (((xx - cx) / rx) ** 2 + ((yy - cy) / ry) ** 2).sqrt()
    stone = (r < 1).float()
    a = 3.14 * torch.rand(n, 1, 1)
    along = xx * a.cos() + yy * a.sin()
    coarse = F.interpolate(torch.randn(n, 1, 5, 5), size, mode="bilinear").squeeze(1)
    texture = torch.stack(
        [
            0.6 * (torch.rand(n, size, size) < 0.15).float(),
            0.3 * torch.sin(11 * along + 6.28 * torch.rand(n, 1, 1)),
            0.6 * ((along + 0.15 * coarse).abs() < 0.12).float(),
            -0.4 * (r > 0.75).float(),
            0.25 * coarse,
        ]
    )[y, torch.arange(n)]
    grey = 0.4 + 0.3 * torch.rand(n, 1, 1)
    img = stone * (grey + texture) + 0.1 * torch.randn(n, size, size)
    colour = 1 + 0.15 * torch.randn(n, 3, 1, 1)
    return img.unsqueeze(1) * colour, y


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != self.expansion * planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, self.expansion * planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(self.expansion * planes),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, num_blocks, num_classes, widths=(8, 16, 32)):
        super().__init__()
        self.in_planes = widths[0]
        self.conv1 = nn.Conv2d(3, widths[0], kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._make_layer(widths[0], num_blocks, stride=1)
        self.layer2 = self._make_layer(widths[1], num_blocks, stride=2)
        self.layer3 = self._make_layer(widths[2], num_blocks, stride=2)
        self.linear = nn.Linear(widths[2], num_classes)

    def _make_layer(self, planes, num_blocks, stride):
        layers = []
        for s in [stride] + [1] * (num_blocks - 1):
            layers.append(BasicBlock(self.in_planes, planes, s))
            self.in_planes = planes
        return nn.Sequential(*layers)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = F.avg_pool2d(out, out.size(3))
        return self.linear(out.view(out.size(0), -1))


trainset, testset = pebbles(3200), pebbles(500)
mean, std = trainset[0].mean((0, 2, 3), keepdim=True), trainset[0].std((0, 2, 3), keepdim=True)


def augment(x):
    x = F.pad(x, (2, 2, 2, 2))
    i, j = torch.randint(0, 5, (2,)).tolist()
    x = x[:, :, i : i + 16, j : j + 16]
    return x.flip(3) if torch.rand(1) < 0.5 else x


net = ResNet(num_blocks=1, num_classes=5)
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[4, 6], gamma=0.1)

for epoch in range(7):
    net.train()
    train_loss, correct = 0, 0
    for idx in torch.randperm(3200).split(64):
        inputs, targets = augment((trainset[0][idx] - mean) / std), trainset[1][idx]
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        train_loss += loss.item()
        correct += outputs.max(1)[1].eq(targets).sum().item()
    scheduler.step()
    print(f"Epoch: {epoch}  Loss: {train_loss / 50:.3f} | Acc: {100.0 * correct / 3200:.3f}%")

net.eval()
with torch.no_grad():
    outputs = net((testset[0] - mean) / std)
    print(f"Test acc {100.0 * outputs.max(1)[1].eq(testset[1]).float().mean().item():.1f}%")
    print(f"final_loss {criterion(outputs, testset[1]).item():.4f}")
