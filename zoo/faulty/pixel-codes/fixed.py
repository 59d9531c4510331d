"""Compress standardised images of two soft blobs to twelve numbers and back."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(35)

size = 8


def blobs(n):
    rows, cols = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    image = torch.zeros(n, size, size)
    for _ in range(2):
        centre = 1 + (size - 3) * torch.rand(n, 2, 1, 1)
        image += torch.exp(-((rows - centre[:, 0]) ** 2 + (cols - centre[:, 1]) ** 2) / 4)
    return ((image - image.mean()) / image.std())[:, None]


train_images, test_images = blobs(5000), blobs(1000)

encoder = nn.Sequential(
    nn.Conv2d(1, 12, 3, stride=2, padding=1),
    nn.GELU(),
    nn.Conv2d(12, 24, 3, stride=2, padding=1),
    nn.GELU(),
    nn.Flatten(),
    nn.Linear(96, 12),
)
decoder = nn.Sequential(
    nn.Linear(12, 96),
    nn.GELU(),
    nn.Unflatten(1, (24, 2, 2)),
    nn.ConvTranspose2d(24, 12, 4, stride=2, padding=1),
    nn.GELU(),
    nn.ConvTranspose2d(12, 1, 4, stride=2, padding=1),
)
model = nn.Sequential(encoder, decoder)
optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)

for step in range(400):
    images = train_images[torch.randint(0, len(train_images), (64,))]
    loss = F.mse_loss(model(images), images)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(test_images), test_images).item():.4f}")
