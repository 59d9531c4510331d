"""What rent does a flat fetch? From the advert: area, rooms, floor, year, distance, income in the district."""

import numpy as np
import torch
import torch.nn as nn

rng = np.random.RandomState(10)
torch.manual_seed(10)


def adverts(n):
    area = rng.gamma(9, 8, n)
    rooms = np.clip(np.round(area / 28 + 0.5 * rng.randn(n)), 1, 7)
    floor = rng.randint(0, 9, n)
    lift = rng.rand(n) < 0.4
    distance = rng.gamma(2, 2.0, n)
    income = rng.normal(46_000, 9_000, n)
    share_green = rng.beta(2, 5, n)
    rent = 9 * area * (1 - 0.04 * distance) + 60 * rooms + 0.008 * (income - 46_000) + 500 * share_green
    rent = rent - 25 * floor * (~lift) + 40 * rng.randn(n)
    X = np.stack([area, rooms, floor, lift, distance, income, share_green], axis=1)
    return X.astype(np.float32), ((rent - 800) / 240).astype(np.float32)


X_train, y_train = adverts(5000)
X_test, y_test = adverts(2000)

mean, std = X_train.mean(axis=0), X_train.std(axis=0)
X_train = (X_train - mean) / std
X_test = (X_test - mean) / std

X_train, y_train = torch.from_numpy(X_train), torch.from_numpy(y_train)
X_test, y_test = torch.from_numpy(X_test), torch.from_numpy(y_test)


class RentNet(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.fc1 = nn.Linear(n_features, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 1)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.act(self.fc1(x))
        x = self.act(self.fc2(x))
        return self.fc3(x).squeeze(-1)


model = RentNet(X_train.shape[1])
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.MSELoss()
BATCH = 64
for epoch in range(5):
    model.train()
    order = torch.randperm(len(X_train))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        loss = criterion(model(X_train[batch]), y_train[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: train mse {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {criterion(model(X_test), y_test).item():.4f}")
