"""Drive a robot along sixty rows of trees; a sign in the first half says to which side it turns at the end."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(241)

n_rows, n_sensors, n_hidden = 60, 4, 48


def drives(n):
    seen = 0.1 * torch.randn(n, n_rows, n_sensors)
    side = torch.randint(0, 2, (n,))
    rows = torch.arange(n)
    seen[rows, torch.randint(0, n_rows // 2, (n,)), 0] += 4.0 * side - 2.0
    return seen, side


class Robot(nn.Module):
    def __init__(self):
        super().__init__()
        self.sense = nn.Linear(n_sensors, n_hidden, bias=False)
        self.recall = nn.Linear(n_hidden, n_hidden, bias=False)
        self.side = nn.Linear(n_hidden, 2)
        nn.init.orthogonal_(self.recall.weight, gain=2.5)

    def forward(self, seen):
        h = torch.zeros(len(seen), n_hidden)
        for x in self.sense(seen).unbind(1):
            h = torch.tanh(x + self.recall(h))
        return self.side(h)


model = Robot()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(200):
    seen, side = drives(64)
    loss = F.cross_entropy(model(seen), side)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    seen, side = drives(2000)
    print(f"final_loss {F.cross_entropy(model(seen), side).item():.4f}")
