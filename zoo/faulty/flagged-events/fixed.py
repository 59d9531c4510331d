"""Classify logs of events by the one event in each that carries the flag."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(30)

n_events, n_values, n_classes = 12, 6, 4
centres = 1.5 * torch.randn(n_classes, n_values)


def logs(n):
    events = 1.5 * torch.randn(n, n_events, n_values)
    label = torch.randint(0, n_classes, (n,))
    rows, place = torch.arange(n), torch.randint(0, n_events, (n,))
    events[rows, place] = centres[label] + 0.7 * torch.randn(n, n_values)
    flag = -torch.ones(n, n_events, 1) * 0.3
    flag[rows, place] = 3.0
    return torch.cat([events, flag], dim=2), label


class AttentionPool(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.key = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, h):
        scores = self.score(torch.tanh(self.key(h)))
        weights = torch.softmax(scores, dim=1)
        return (weights * h).sum(dim=1)


class LogClassifier(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(n_values + 1, width), nn.GELU())
        self.pool = AttentionPool(width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_classes))

    def forward(self, events):
        return self.head(self.pool(self.encode(events)))


model = LogClassifier()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(400):
    events, label = logs(40)
    loss = F.cross_entropy(model(events), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    events, label = logs(2000)
    print(f"final_loss {F.cross_entropy(model(events), label).item():.4f}")
