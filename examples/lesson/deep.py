"""Twelve layers of ReLU, whose weights have the standard deviation 1 / √fan_in: a gain of 1, where √2 is needed."""

import torch
import torch.nn.functional as F
from names import X, Y, symbols
from torch import nn

torch.manual_seed(0)
embedding = nn.Embedding(symbols, 10)
hidden = [nn.Linear(30, 100), *(nn.Linear(100, 100) for _ in range(11))]
output = nn.Linear(100, symbols)
for layer in hidden:
    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    nn.init.zeros_(layer.bias)
optimizer = torch.optim.SGD(nn.ModuleList([embedding, *hidden, output]).parameters(), lr=0.1)

for _ in range(200):
    batch = torch.randint(len(X), (32,))
    h = embedding(X[batch]).flatten(1)
    for layer in hidden:
        h = F.relu(layer(h))
    loss = F.cross_entropy(output(h), Y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")
