"""Read seven-segment digits in framed 12x8 pictures, patch by patch."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(109)

segments = {0: "abcdef", 1: "bc", 2: "abged", 3: "abgcd", 4: "fgbc", 5: "afgcd", 6: "afgedc", 7: "abc"}
strokes = {
    "a": (slice(2, 3), slice(2, 6)),
    "b": (slice(2, 6), slice(5, 6)),
    "c": (slice(5, 9), slice(5, 6)),
    "d": (slice(8, 9), slice(2, 6)),
    "e": (slice(5, 9), slice(2, 3)),
    "f": (slice(2, 6), slice(2, 3)),
    "g": (slice(5, 6), slice(2, 6)),
}
templates = torch.zeros(len(segments), 12, 8)
for digit, names in segments.items():
    for name in names:
        templates[(digit, *strokes[name])] = 1


def framed(n):
    digit = torch.randint(0, len(segments), (n,))
    images = templates[digit] + 0.7 * torch.randn(n, 12, 8)
    images[:, [0, -1], :] = 1.0
    images[:, :, [0, -1]] = 1.0
    return images.unsqueeze(1), digit


class PatchMixer(nn.Module):
    def __init__(self, width=24, n_patches=6):
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, stride=4)
        self.norm1 = nn.LayerNorm(n_patches)
        self.across = nn.Linear(n_patches, n_patches)
        self.norm2 = nn.LayerNorm(width)
        self.within = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width * n_patches, len(segments))

    def forward(self, images):
        patches = self.patch(images).flatten(2)
        patches = patches + F.gelu(self.across(self.norm1(patches)))
        patches = patches.transpose(1, 2)
        patches = patches + self.within(self.norm2(patches))
        return self.head(patches.flatten(1))


images, digits = framed(3000)
mean, std = images.mean(0), images.std(0)


def standardise(images):
    return (images - mean) / std


model = PatchMixer()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
loader = DataLoader(TensorDataset(standardise(images), digits), batch_size=50, shuffle=True)

for epoch in range(4):
    model.train()
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    images, digits = framed(1000)
    print(f"final_loss {F.cross_entropy(model(standardise(images)), digits).item():.4f}")
