"""A small convolutional net that tells where the bright blob of an 8x8 picture sits."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(103)

side = 8
row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")


def pictures(n):
    centre = torch.randint(1, side - 1, (n, 2, 1, 1))
    width = torch.where(torch.rand(n, 1, 1) < 0.5, 0.8, 1.6)
    distance = (row - centre[:, 0]) ** 2 + (col - centre[:, 1]) ** 2
    image = torch.exp(-distance / width**2) + 0.3 * torch.randn(n, side, side)
    label = 2 * (centre[:, 0].flatten() >= side // 2) + (width.flatten() > 1)
    return ((image - 0.1) / 0.4).unsqueeze(1), label.long()


class ConvNet(nn.Module):
    def __init__(self, n_classes=4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(inplace=True),
            nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Linear(24 * 4, n_classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


train = DataLoader(TensorDataset(*pictures(4096)), batch_size=64, shuffle=True)
test = DataLoader(TensorDataset(*pictures(1024)), batch_size=256)
model = ConvNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)


def evaluate():
    model.eval()
    with torch.no_grad():
        losses = [F.cross_entropy(model(x), y).item() for x, y in test]
    model.train()
    return sum(losses) / len(losses)


for epoch in range(4):
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}  test {evaluate():.4f}")

print(f"final_loss {evaluate():.4f}")
