"""A network whose every weight starts at zero."""

import torch
import torch.nn.functional as F
from names import X, Y, symbols
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(symbols, 10), nn.Flatten(), nn.Linear(30, 100), nn.Tanh(), nn.Linear(100, symbols))
for parameter in model.parameters():
    nn.init.zeros_(parameter)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for _ in range(200):
    batch = torch.randint(len(X), (32,))
    loss = F.cross_entropy(model(X[batch]), Y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")
