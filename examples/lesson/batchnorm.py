"""Batch normalisation behind a layer with a bias, evaluated without `model.eval()`.

python examples/lesson/batchnorm.py [--batch 32]
"""

import argparse

import torch
import torch.nn.functional as F
from names import X, Y, symbols
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=32)
size = parser.parse_args().batch

torch.manual_seed(0)
model = nn.Sequential(
    nn.Embedding(symbols, 10),
    nn.Flatten(),
    nn.Linear(30, 100),
    nn.BatchNorm1d(100),
    nn.Tanh(),
    nn.Linear(100, symbols),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(200):
    batch = torch.randint(1000, len(X), (size,))
    loss = F.cross_entropy(model(X[batch]), Y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 49:
        with torch.no_grad():
            print(f"{step}: {F.cross_entropy(model(X[:1000]), Y[:1000]).item():.4f}")
