"""A copy of the network holds the average of its weights over the training, but no running statistics."""

import copy

import torch
import torch.nn.functional as F
from names import X, Y, symbols
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(
    nn.Embedding(symbols, 10),
    nn.Flatten(),
    nn.Linear(30, 100, bias=False),
    nn.BatchNorm1d(100),
    nn.Tanh(),
    nn.Linear(100, symbols),
)
average = copy.deepcopy(model).requires_grad_(False).eval()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(200):
    batch = torch.randint(1000, len(X), (32,))
    loss = F.cross_entropy(model(X[batch]), Y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for mean, value in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(value, 0.1)
    if step % 50 == 49:
        with torch.no_grad():
            print(f"{step}: {F.cross_entropy(average(X[:1000]), Y[:1000]).item():.4f}")
