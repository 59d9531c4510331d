"""Classify small images of woven cloth by the direction of the weave."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(25)

n_classes, size = 6, 12


def weave(n):
    y = torch.randint(0, n_classes, (n,))
    angle = (3.1416 / n_classes * y)[:, None, None]
    rows, cols = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    phase = 6.28 * torch.rand(n, 1, 1)
    image = torch.sin(1.2 * (rows * torch.sin(angle) + cols * torch.cos(angle)) + phase)
    image = image + 0.8 * torch.randn(n, size, size)
    return TensorDataset(((image - image.mean()) / image.std())[:, None], y)


train_set, test_set = weave(3200), weave(800)
loader = DataLoader(train_set, batch_size=50, shuffle=True)

model = nn.Sequential(
    nn.Conv2d(1, 12, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(12, 24, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(96, n_classes),
)
for layer in model:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

for epoch in range(5):
    model.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}  loss {total / len(loader):.4f}")

model.eval()
with torch.no_grad():
    images, labels = test_set.tensors
    print(f"final_loss {criterion(model(images), labels).item():.4f}")
