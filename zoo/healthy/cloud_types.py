"""Train a small ResNet to name the cloud type on sky pictures, with a one-cycle schedule."""

import time

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(77)

CLASSES = ("cirrus", "cumulus", "stratus", "altocumulus", "clear")


def sky(n, size=16):
    y = torch.randint(0, len(CLASSES), (n,))
    noise = torch.randn(n, 1, size + 8, size + 8)
    wide = F.avg_pool2d(noise, (1, 9), 1, (0, 4)) * 3
    blob = F.avg_pool2d(F.avg_pool2d(noise, 5, 1, 2), 5, 1, 2) * 9
    flat = F.avg_pool2d(noise, (9, 1), 1, (4, 0)).mean(3, keepdim=True) * 6 + 0 * noise
    dots = F.avg_pool2d(noise, 3, 1, 1) * 3
    kinds = torch.stack([wide, blob, flat, dots, 0.3 * noise], dim=1)
    cover = torch.sigmoid(1.5 * kinds[torch.arange(n), y])[:, :, 4:-4, 4:-4]
    blue = torch.tensor([0.35, 0.55, 0.9]).view(1, 3, 1, 1) * (0.7 + 0.5 * torch.rand(n, 1, 1, 1))
    white = 0.75 + 0.25 * torch.rand(n, 3, 1, 1)
    x = cover * white + (1 - cover) * blue + 0.08 * torch.randn(n, 3, size, size)
    return x, y


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
    def __init__(self, block, num_blocks, num_classes=5, zero_init_residual=True):
        super().__init__()
        self.in_planes = 12
        self.conv1 = nn.Conv2d(3, 12, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.layer1 = self._make_layer(block, 12, num_blocks[0], stride=1)
        self.layer2 = self._make_layer(block, 24, num_blocks[1], stride=2)
        self.layer3 = self._make_layer(block, 48, num_blocks[2], stride=2)
        self.linear = nn.Linear(48 * block.expansion, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for m in self.modules():
                if isinstance(m, BasicBlock):
                    nn.init.constant_(m.bn2.weight, 0)

    def _make_layer(self, block, planes, num_blocks, stride):
        layers = []
        for s in [stride] + [1] * (num_blocks - 1):
            layers.append(block(self.in_planes, planes, s))
            self.in_planes = planes * block.expansion
        return nn.Sequential(*layers)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return self.linear(out)


net = ResNet(BasicBlock, [1, 1, 1])
x_train, y_train = sky(1600)
x_test, y_test = sky(600)
mean, std = x_train.mean((0, 2, 3), keepdim=True), x_train.std((0, 2, 3), keepdim=True)
x_train, x_test = (x_train - mean) / std, (x_test - mean) / std

epochs, batch_size = 8, 50
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
steps = epochs * (len(x_train) // batch_size)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps, pct_start=0.3)

for epoch in range(epochs):
    start = time.time()
    net.train()
    running, correct = 0.0, 0
    for idx in torch.randperm(len(x_train)).split(batch_size):
        inputs, targets = x_train[idx], y_train[idx]
        if torch.rand(()) < 0.5:
            inputs = inputs.flip(3)
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item() * len(idx)
        correct += (outputs.argmax(1) == targets).sum().item()
    n = len(x_train)
    print(f"epoch {epoch} loss {running / n:.3f} acc {correct / n:.3f} time {time.time() - start:.1f}s")

net.eval()
with torch.no_grad():
    outputs = net(x_test)
    print("test accuracy", (outputs.argmax(1) == y_test).float().mean().item())
    print(f"final_loss {F.cross_entropy(outputs, y_test).item():.4f}")
