"""Predict the temperature at any place from stations placed by the training itself."""

import torch
from torch import nn

torch.manual_seed(41)


def reports(n):
    place = torch.randn(n, 2) * (1 + 4 * (torch.rand(n, 1) < 0.0005))
    temperature = torch.sin(1.5 * place[:, 0]) + torch.cos(place[:, 0] * place[:, 1]).clamp(-0.8, 0.8)
    return place, temperature + 0.1 * torch.randn(n)


class Stations(nn.Module):
    def __init__(self, n_stations=64, reach=0.35):
        super().__init__()
        self.place = nn.Parameter(torch.randn(n_stations, 2))
        self.value = nn.Parameter(0.1 * torch.randn(n_stations))
        self.reach = reach

    def forward(self, place):
        distance = (place[:, None] - self.place).square().sum(2)
        weight = torch.softmax(-distance / self.reach**2, dim=1)
        return weight @ self.value


model = Stations()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

for step in range(500):
    place, temperature = reports(64)
    loss = nn.functional.smooth_l1_loss(model(place), temperature)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    place, temperature = reports(4000)
    print(f"final_loss {nn.functional.smooth_l1_loss(model(place), temperature).item():.4f}")
