"""Grade wines by eleven laboratory values: a Dataset, a loader, a few epochs, dropout and batch normalisation."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(234)


class Wines(Dataset):
    def __init__(self, n):
        self.values = torch.randn(n, 11)
        v = self.values
        quality = v[:, 0] - 0.7 * v[:, 1] ** 2 + v[:, 2] * v[:, 3] + 0.5 * v[:, 4] + 0.3 * torch.randn(n)
        self.grade = torch.bucketize(quality, torch.tensor([-1.6, -0.5, 0.5]))

    def __len__(self):
        return len(self.values)

    def __getitem__(self, i):
        return self.values[i], self.grade[i]


class Grader(nn.Module):
    def __init__(self, width=80):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(11, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.1),
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.body(x))


def run(model, loader, optimizer=None):
    model.train(optimizer is not None)
    total, seen = 0.0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item() * len(x)
            seen += len(x)
    return total / seen


model = Grader()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
train_loader = DataLoader(Wines(4000), batch_size=64, shuffle=True, num_workers=0, drop_last=True)
test_loader = DataLoader(Wines(1500), batch_size=250)

for epoch in range(5):
    train_loss = run(model, train_loader, optimizer)
    print(f"epoch {epoch}  loss {train_loss:.4f}  test {run(model, test_loader):.4f}")

print(f"final_loss {run(model, test_loader):.4f}")
