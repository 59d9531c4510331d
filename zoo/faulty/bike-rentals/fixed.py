"""Forecast how many bikes are rented from station, hour, weekday and weather."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(29)

sizes = {"station": 40, "hour": 24, "weekday": 7, "weather": 5}
effects = {name: torch.randn(size, 2) for name, size in sizes.items()}


def rentals(n):
    columns = {name: torch.randint(0, size, (n,)) for name, size in sizes.items()}
    station, hour, weekday, weather = (effects[name][columns[name]] for name in sizes)
    demand = (station * hour).sum(1) + (weekday * weather).sum(1) + station[:, 0]
    return columns, demand / 2.2 + 0.1 * torch.randn(n)


class Demand(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(size, 3) for name, size in sizes.items()})
        self.hidden = nn.Linear(3 * len(sizes), width)
        self.out = nn.Linear(width, 1)

    def forward(self, columns):
        h = torch.cat([self.tables[name](columns[name]) for name in sizes], dim=1)
        return self.out(F.leaky_relu(self.hidden(h), 0.1)).squeeze(1)


def train(model, n_steps=600, batch_size=128):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-3)
    model.train()
    for step in range(n_steps):
        columns, demand = rentals(batch_size)
        loss = F.mse_loss(model(columns), demand)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


model = Demand()
train(model)
model.eval()
with torch.no_grad():
    columns, demand = rentals(4000)
    print(f"final_loss {F.mse_loss(model(columns), demand).item():.4f}")
