"""Estimate the demand for a product in a store on a weekday from the three names alone."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(406)

COUNTS = {"store": 40, "product": 60, "weekday": 7}
TRAITS = {name: torch.randn(count, 3) for name, count in COUNTS.items()}


def sales(n):
    ids = torch.stack([torch.randint(0, count, (n,)) for count in COUNTS.values()], dim=1)
    store, product, weekday = (TRAITS[name][ids[:, i]] for i, name in enumerate(COUNTS))
    demand = (store * product).sum(1) + product[:, 0] * weekday[:, 0] + store[:, 1] + weekday[:, 2].abs()
    return ids, demand + 0.2 * torch.randn(n)


class Demand(nn.Module):
    def __init__(self, dim=32, width=64):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count, dim) for count in COUNTS.values())
        self.body = nn.Sequential(nn.Linear(len(COUNTS) * dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 1)
        bound = 3**0.5
        for table in self.tables:
            nn.init.uniform_(table.weight, -bound, bound)
        for layer in (self.body[0], self.body[2]):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids):
        parts = [table(column) for table, column in zip(self.tables, ids.unbind(1), strict=True)]
        return self.head(self.body(torch.cat(parts, dim=1))).squeeze(1)


ids, demand = sales(8000)
mean, std = demand.mean(), demand.std()
loader = DataLoader(TensorDataset(ids, (demand - mean) / std), batch_size=64, shuffle=True)
test_ids, test_demand = sales(2000)
test_demand = (test_demand - mean) / std

model = Demand()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
mse = nn.MSELoss()

for epoch in range(4):
    for batch, target in loader:
        loss = mse(model(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {mse(model(test_ids), test_demand).item():.4f}")
