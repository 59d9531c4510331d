"""A plain recurrent net with an orthogonal recurrence repeats each symbol five steps later."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(242)

n_symbols, length, delay, width = 4, 24, 5, 64


def streams(n):
    symbols = torch.randint(0, n_symbols, (n, length))
    return symbols, symbols[:, :-delay]


class Echo(nn.Module):
    def __init__(self):
        super().__init__()
        self.inward = nn.Embedding(n_symbols, width)
        self.across = nn.Linear(width, width)
        self.outward = nn.Linear(width, n_symbols)
        nn.init.normal_(self.inward.weight, std=0.5)
        nn.init.orthogonal_(self.across.weight)
        nn.init.zeros_(self.across.bias)

    def forward(self, symbols):
        driven = self.inward(symbols)
        state = torch.zeros(len(symbols), width)
        outputs = []
        for t in range(length):
            state = torch.tanh(driven[:, t] + self.across(state))
            outputs.append(state)
        return self.outward(torch.stack(outputs, dim=1))


def loss_of(model, symbols, echo):
    return F.cross_entropy(model(symbols)[:, delay:].flatten(0, 1), echo.flatten())


model = Echo()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(250):
    loss = loss_of(model, *streams(48))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, *streams(500)).item():.4f}")
