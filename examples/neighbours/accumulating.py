"""A plain script, which knows nothing of unstuck, that forgot to clear its gradients."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(512, 20)
y = x[:, :3].argmax(1)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(40):
    rows = torch.randint(0, 512, (32,))
    loss = F.cross_entropy(model(x[rows]), y[rows])
    loss.backward()
    optimizer.step()
print("trained")
