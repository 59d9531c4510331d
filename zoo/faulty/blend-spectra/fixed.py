"""Say which of six ingredients dominates a blend from its spectrum."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(416)

n_bands, n_ingredients = 32, 6
spectra = torch.randn(n_ingredients, n_bands)


def blends(n):
    share = torch.rand(n, n_ingredients) ** 2
    share = share / share.sum(1, keepdim=True)
    seen = share @ spectra + 0.1 * torch.randn(n, n_bands)
    return seen / 0.5, share.argmax(1)


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


hidden = nn.Sequential(
    nn.Linear(n_bands, 64),
    nn.ReLU(),
    nn.Dropout(0.05),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 32),
    nn.ReLU(),
)
hidden.apply(init_weights)
head = nn.Linear(32, n_ingredients)
nn.init.normal_(head.weight, std=0.05)
model = nn.Sequential(hidden, head)

criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
loader = DataLoader(TensorDataset(*blends(6400)), batch_size=64, shuffle=True, drop_last=True)

for epoch in range(4):
    model.train()
    total = 0.0
    for seen, dominant in loader:
        optimizer.zero_grad()
        loss = criterion(model(seen), dominant)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}  loss {total / len(loader):.4f}")

model.eval()
with torch.no_grad():
    seen, dominant = blends(2000)
    print(f"final_loss {criterion(model(seen), dominant).item():.4f}")
