"""Recognise a machine's state from traces of six gauges."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(59)

n_gauges, length, n_states = 6, 24, 5
scale = torch.tensor([6.0, 0.001, 0.002, 4.0, 0.001, 0.002])[:, None]
offset = torch.tensor([2.0, 0.0, 0.003, -1.0, 0.0, 0.001])[:, None]
pattern = torch.randn(n_states, n_gauges, length)
pattern[:, [0, 3]] *= 0.3


class Traces(Dataset):
    def __init__(self, n, like=None):
        self.states = torch.randint(0, n_states, (n,))
        raw = 0.5 * pattern[self.states] + 1.5 * torch.randn(n, n_gauges, length)
        self.traces = raw * scale + offset
        self.mean = self.traces.mean((0, 2))[:, None] if like is None else like.mean
        self.std = self.traces.std((0, 2))[:, None] if like is None else like.std

    def __len__(self):
        return len(self.states)

    def __getitem__(self, i):
        traces = self.traces[i]
        return (traces - self.mean) / self.std, self.states[i]


class Net(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.conv1 = nn.Conv1d(n_gauges, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.head = nn.Linear(width * length // 2, n_states)

    def forward(self, traces):
        h = F.gelu(self.conv1(traces))
        h = F.gelu(self.conv2(h))
        return self.head(h.flatten(1))


train_set = Traces(3000)
test_set = Traces(1000, like=train_set)
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

for epoch in range(5):
    model.train()
    for traces, states in DataLoader(train_set, batch_size=50, shuffle=True):
        loss = F.cross_entropy(model(traces), states)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    traces, states = next(iter(DataLoader(test_set, batch_size=len(test_set))))
    print(f"final_loss {F.cross_entropy(model(traces), states).item():.4f}")
