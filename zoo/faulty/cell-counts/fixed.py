"""Count the round cells in 14x14 pictures."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(52)

side, most = 14, 6
row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")


def pictures(n):
    count = torch.randint(0, most + 1, (n,))
    image = 0.2 * torch.randn(n, side, side)
    for k in range(most):
        centre = 1 + (side - 3) * torch.rand(n, 2, 1, 1)
        spot = torch.exp(-((row - centre[:, 0]) ** 2 + (col - centre[:, 1]) ** 2) / 1.2)
        image += spot * (count > k).view(-1, 1, 1)
    return ((image - 0.06) / 0.3).unsqueeze(1), (count - 3) / 2.0


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.dropout = nn.Dropout(0.4)
        self.head = nn.Linear(24 * 9, 1)

    def forward(self, x):
        x = F.max_pool2d(F.gelu(self.conv1(x)), 2)
        x = F.gelu(self.norm(self.conv2(x)))
        x = F.adaptive_avg_pool2d(x, 3).flatten(1)
        return self.head(self.dropout(x)).squeeze(1)


def train(model, loader, optimizer, epochs):
    for epoch in range(epochs):
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}  loss {total / len(loader):.4f}")


def main():
    loader = DataLoader(TensorDataset(*pictures(3200)), batch_size=64, shuffle=True)
    x_test, y_test = pictures(1000)
    model = Counter()
    train(model, loader, torch.optim.Adam(model.parameters(), lr=2e-3), epochs=5)
    model.eval()
    with torch.no_grad():
        print(f"final_loss {F.mse_loss(model(x_test), y_test).item():.4f}")


main()
