"""Estimate a field's yield from soil and weather, in small pieces of each batch."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(37)

n_features, n_micro, micro_size = 8, 8, 16


def fields(n):
    x = torch.randn(n, n_features)
    rain, heat, soil = x[:, 0], x[:, 1], x[:, 2:5].mean(1)
    y = torch.sin(1.5 * rain) - 0.4 * heat**2 + rain * soil + 0.5 * x[:, 5]
    return x, (y + 0.4 + 0.2 * torch.randn(n)).unsqueeze(1)


class Net(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.fc1 = nn.Linear(n_features, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, 1)

    def forward(self, x):
        x = F.elu(self.fc1(x))
        x = F.elu(self.fc2(x))
        return self.fc3(x)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.035, momentum=0.9)

for step in range(200):
    optimizer.zero_grad()
    total = 0.0
    for _ in range(n_micro):
        x, y = fields(micro_size)
        loss = F.mse_loss(model(x), y)
        loss.backward()
        total += loss.item() / n_micro
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step:4d}  loss {total:.4f}")

model.eval()
with torch.no_grad():
    x, y = fields(4000)
    print(f"final_loss {F.mse_loss(model(x), y).item():.4f}")
