"""A healthy network; the learning rate is yours: python examples/lesson/rate.py --lr 0.1"""

import argparse

import torch
import torch.nn.functional as F
from names import X, Y, symbols
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
rate = parser.parse_args().lr

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(symbols, 10), nn.Flatten(), nn.Linear(30, 100), nn.Tanh(), nn.Linear(100, symbols))
optimizer = torch.optim.SGD(model.parameters(), lr=rate)
for _ in range(200):
    batch = torch.randint(len(X), (32,))
    loss = F.cross_entropy(model(X[batch]), Y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")
