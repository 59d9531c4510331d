"""Sort grass seeds into eight species by measurements from a sieve line."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(12)
torch.manual_seed(12)

N_SPECIES, N_FEATURES, PER_SPECIES = 8, 12, 500


def measure(per_species):
    """All seeds of the first species, then all of the second, as the line weighed them."""
    centres = np.random.default_rng(99).normal(0, 1, (N_SPECIES, 3, N_FEATURES))
    features, species = [], []
    for s in range(N_SPECIES):
        strain = rng.integers(0, 3, per_species)
        features.append(centres[s, strain] + 0.7 * rng.normal(size=(per_species, N_FEATURES)))
        species.append(np.full(per_species, s))
    return np.concatenate(features).astype("float32"), np.concatenate(species)


x_train, y_train = measure(PER_SPECIES)
x_test, y_test = measure(100)
mu, sigma = x_train.mean(0), x_train.std(0)
train_set = TensorDataset(torch.from_numpy((x_train - mu) / sigma), torch.from_numpy(y_train))
test_set = TensorDataset(torch.from_numpy((x_test - mu) / sigma), torch.from_numpy(y_test))
train_loader = DataLoader(train_set, batch_size=100, shuffle=True)
test_loader = DataLoader(test_set, batch_size=200)


class SeedNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.input = nn.Linear(N_FEATURES, 128)
        self.hidden = nn.Linear(128, 64)
        self.output = nn.Linear(64, N_SPECIES)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.input(x))
        x = nn.functional.leaky_relu(self.hidden(x))
        return self.output(x)


model = SeedNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

history = []
for epoch in range(12):
    model.train()
    epoch_loss = 0.0
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * len(xb)
    history.append(epoch_loss / len(train_set))
    print(f"Epoch {epoch + 1}/12 - loss: {history[-1]:.4f}")

model.eval()
with torch.no_grad():
    losses = [criterion(model(xb), yb) * len(xb) for xb, yb in test_loader]
print("final_loss", round(float(sum(losses)) / len(test_set), 4))
