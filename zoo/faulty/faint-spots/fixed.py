"""Tell whether a noisy image holds a faint bright spot."""

import torch
import torch.nn as nn

torch.manual_seed(33)

size = 12


def exposures(n):
    has_spot = (torch.rand(n) < 0.5).float()
    rows, cols = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = 2 + (size - 5) * torch.rand(n, 2, 1, 1)
    spot = torch.exp(-((rows - centre[:, 0]) ** 2 + (cols - centre[:, 1]) ** 2) / 3)
    image = 2.0 * has_spot[:, None, None] * spot + 0.8 * torch.randn(n, size, size)
    return ((image - image.mean()) / image.std())[:, None], has_spot


x_train, y_train = exposures(4000)
x_test, y_test = exposures(1000)

model = nn.Sequential(
    nn.Conv2d(1, 12, 5, padding=2, bias=False),
    nn.BatchNorm2d(12),
    nn.LeakyReLU(0.1),
    nn.Conv2d(12, 12, 3, padding=1, bias=False),
    nn.BatchNorm2d(12),
    nn.LeakyReLU(0.1),
    nn.AdaptiveMaxPool2d(1),
    nn.Flatten(),
    nn.Linear(12, 1),
)
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

for epoch in range(3):
    model.train()
    for ix in torch.randperm(len(x_train)).split(40):
        loss = criterion(model(x_train[ix]).squeeze(1), y_train[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {criterion(model(x_test).squeeze(1), y_test).item():.4f}")
