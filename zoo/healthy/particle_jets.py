"""Sort simulated particle jets into three kinds with a self-normalising network."""

import math

import torch
import torch.nn as nn

torch.manual_seed(215)

n_features, width, n_kinds = 12, 64, 3


def jets(n):
    kind = torch.randint(0, n_kinds, (n,))
    mass = torch.randn(n) + 1.2 * (kind == 1)
    spread = torch.randn(n) * (1 + 1.5 * (kind == 2))
    rest = torch.randn(n, n_features - 2)
    rest[:, 0] += mass * spread * 0.5
    rest[:, 1] += (kind == 2) * mass
    return torch.cat([mass.unsqueeze(1), spread.unsqueeze(1), rest], dim=1), kind


layers = []
fan_in = n_features
for _ in range(4):
    linear = nn.Linear(fan_in, width)
    nn.init.normal_(linear.weight, std=1 / math.sqrt(fan_in))
    nn.init.zeros_(linear.bias)
    layers += [linear, nn.SELU(), nn.AlphaDropout(0.05)]
    fan_in = width
layers.append(nn.Linear(width, n_kinds))
model = nn.Sequential(*layers)

optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4)
criterion = nn.CrossEntropyLoss()

for step in range(400):
    x, y = jets(64)
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = jets(3000)
    print(f"final_loss {criterion(model(x), y).item():.4f}")
