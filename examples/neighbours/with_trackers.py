"""The numbers of each site, and the report, for an experiment tracker: python with_trackers.py wandb (or another)."""

import sys

import torch
import torch.nn.functional as F
from torch import nn

import unstuck

torch.manual_seed(0)
x = torch.randn(512, 20)
y = x[:, :3].argmax(1)
model = nn.Sequential(nn.Linear(20, 64), nn.Sigmoid(), nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 3))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
with unstuck.watch(log_to=sys.argv[1] if len(sys.argv) > 1 else "tensorboard") as run:
    for _ in range(100):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(run.report())
