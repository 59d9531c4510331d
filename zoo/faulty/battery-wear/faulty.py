"""Capacity left in a battery after a life of charging, from its record."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"


class BatteryRecords(Dataset):
    """Six readings per battery and the capacity it has left."""

    def __init__(self, n, generator):
        cycles = 200 + 1800 * torch.rand(n, generator=generator)
        heat = 15 + 30 * torch.rand(n, generator=generator)
        depth = 0.2 + 0.8 * torch.rand(n, generator=generator)
        rate = 0.3 + 2.7 * torch.rand(n, generator=generator)
        rest = 24 * torch.rand(n, generator=generator)
        maker = torch.randint(0, 2, (n,), generator=generator).float()
        stress = (cycles / 1000) ** 0.7 * (1 + 0.04 * (heat - 25).relu()) * (0.4 + depth) * (1 + 0.15 * rate * maker)
        capacity = 100 - 8 * stress + 0.1 * rest + 1.0 * torch.randn(n, generator=generator)
        features = torch.stack([cycles, heat, depth, rate, rest, maker], dim=1)
        self.x = (features - features.mean(0)) / features.std(0)
        self.y = (capacity - capacity.mean()) / capacity.std()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


generator = torch.Generator().manual_seed(1)
train_loader = DataLoader(BatteryRecords(3000, generator), batch_size=100, shuffle=True)
test_loader = DataLoader(BatteryRecords(1000, generator), batch_size=100)

model = nn.Sequential(
    nn.Linear(6, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 1),
).to(device)
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.3)


def train_one_epoch():
    model.train()
    running = 0.0
    for x, y in train_loader:
        x, y = x.to(device), y.to(device)
        pred = model(x)
        loss = loss_fn(pred, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running / len(train_loader)


def test():
    model.eval()
    squares = []
    with torch.no_grad():
        for x, y in test_loader:
            squares.append((model(x.to(device)).flatten() - y.to(device)) ** 2)
    return torch.cat(squares).mean().item()


for epoch in range(12):
    train_loss = train_one_epoch()
    scheduler.step()
    print(f"Epoch {epoch + 1:2d} | train {train_loss:.4f}")
print(f"final_loss {test():.4f}")
