"""Name the species of leaves in 8x8 pictures collected folder by folder."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(89)

side, n_species = 8, 5
outline = F.avg_pool2d(torch.randn(n_species, 1, side + 2, side + 2), 3, stride=1) * 1.7


def leaves(per_species):
    species = torch.arange(n_species).repeat_interleave(per_species)
    images = outline[species] + torch.randn(len(species), 1, side, side)
    return images / 1.15, species


class LeafNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.GELU(),
        )
        self.head = nn.Linear(32 * side * side // 4, n_species)

    def forward(self, images):
        return self.head(self.features(images).flatten(1))


loader = DataLoader(TensorDataset(*leaves(600)), batch_size=50, shuffle=True)
model = LeafNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

for epoch in range(5):
    model.train()
    for images, species in loader:
        loss = F.cross_entropy(model(images), species)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    images, species = leaves(200)
    print(f"final_loss {F.cross_entropy(model(images), species).item():.4f}")
