"""Forecast tomorrow's calls to a help desk from the counts of the last two weeks."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(107)

days = 14


def desks(n):
    t = torch.arange(days + 1)
    level = 0.5 * torch.randn(n, 1) + 1.0
    week = 0.7 * torch.sin(2 * torch.pi * (t + torch.randint(0, 7, (n, 1))) / 7)
    return torch.poisson((level + week).exp())


def scaled(calls):
    return (calls.log1p() - 1.0) / 0.7


class Desk(nn.Module):
    def __init__(self, n_hidden=32):
        super().__init__()
        self.rnn = nn.LSTM(1, n_hidden, batch_first=True)
        self.out = nn.Linear(n_hidden, 1)

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states[:, -1]).squeeze(1)


train_calls, test_calls = desks(4000), desks(1000)
model = Desk()
nn.init.constant_(model.out.bias, train_calls.mean().log().item())
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

for step in range(300):
    calls = train_calls[torch.randint(0, len(train_calls), (64,))]
    rate = model(scaled(calls[:, :-1, None]))
    loss = F.poisson_nll_loss(rate, calls[:, -1], full=True)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    rate = model(scaled(test_calls[:, :-1, None]))
    print(f"final_loss {F.poisson_nll_loss(rate, test_calls[:, -1], full=True).item():.4f}")
