"""Estimate how many seconds a delivery takes from distance, traffic and load."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(61)


def deliveries(n):
    x = torch.randn(n, 6)
    distance, traffic, stairs, load, rain, hour = x.unbind(1)
    busy = torch.sigmoid(2 * traffic)
    seconds = (
        900 + 220 * distance + 150 * busy * distance.abs() + 90 * stairs * load + 60 * rain + 40 * torch.sin(3 * hour)
    )
    return x, (seconds + 20 * torch.randn(n)).unsqueeze(1)


x_train, y_train = deliveries(6000)
x_test, y_test = deliveries(2000)
y_mean, y_std = 0.0, 1.0
y_train = (y_train - y_mean) / y_std

model = nn.Sequential(
    nn.Linear(6, 64),
    nn.Mish(),
    nn.Linear(64, 64),
    nn.Mish(),
    nn.Linear(64, 1),
)
nn.init.normal_(model[-1].weight, std=0.03)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(500):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.mse_loss(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    seconds = model(x_test) * y_std + y_mean
    print(f"final_error {(seconds - y_test).abs().mean().item():.4f}")
