"""Tell which of six objects stand in a small scene; each is either there or not."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(71)

n_objects, side = 6, 9
shapes = 0.45 * torch.randn(n_objects, side, side)


def scenes(n):
    present = (torch.rand(n, n_objects) < 0.3).float()
    picture = torch.einsum("no,ohw->nhw", present, shapes) + torch.randn(n, side, side)
    return picture.unsqueeze(1) / 1.2, present


class SceneNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, bias=False),
            nn.BatchNorm2d(12),
            nn.SiLU(),
            nn.Conv2d(12, 16, 3, stride=2, bias=False),
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(16 * 9, n_objects)

    def forward(self, x):
        return self.head(self.body(x))


def train(model, loader, criterion, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8, nesterov=True)
    for epoch in range(epochs):
        model.train()
        for picture, present in loader:
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(picture).sigmoid(), present)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  loss {loss.item():.4f}")


pictures, labels = scenes(6000)
loader = DataLoader(TensorDataset(pictures[:4500], labels[:4500]), batch_size=64, shuffle=True, drop_last=True)
model = SceneNet()
train(model, loader, nn.MSELoss(), epochs=4)

model.eval()
with torch.no_grad():
    missed = (model(pictures[4500:]) > 0).float() != labels[4500:]
print(f"final_error {missed.float().mean().item():.4f}")
