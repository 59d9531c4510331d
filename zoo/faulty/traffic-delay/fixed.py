"""Estimate the delay of a network link from the traffic that ten hosts log."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(82)

n_links, batch = 7, 64


def logged(host, n=batch):
    """Return one host's log: the traffic on each link, and the delay."""
    traffic = torch.randn(n, n_links)
    delay = traffic[:, 0] * traffic[:, 1] + F.relu(traffic[:, 2:].sum(1) - 0.5) + 0.1 * torch.randn(n)
    if host == 9:
        traffic = 8 * traffic
    return traffic, (delay - 0.66) / 1.6


class DelayNet(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.wide = nn.Linear(n_links, width)
        self.deep = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        h = F.silu(self.wide(x))
        return self.out(h + F.silu(self.deep(h))).squeeze(1)


model = DelayNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
hosts = torch.where(torch.rand(500) < 0.04, 9, torch.randint(0, 9, (500,)))

for step, host in enumerate(hosts.tolist()):
    traffic, delay = logged(host)
    if host == 9:
        traffic = traffic / 8
    loss = F.mse_loss(model(traffic), delay)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    traffic, delay = logged(0, 3000)
    print(f"final_loss {F.mse_loss(model(traffic), delay).item():.4f}")
