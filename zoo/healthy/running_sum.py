"""A recurrent net that keeps the running sum of small numbers modulo five."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(105)

modulus, length = 5, 8


class Summer(nn.Module):
    def __init__(self, n_embd=16, n_hidden=64):
        super().__init__()
        self.embedding = nn.Embedding(modulus, n_embd)
        self.gru = nn.GRU(n_embd, n_hidden, batch_first=True)
        self.output = nn.Linear(n_hidden, modulus)

    def forward(self, numbers):
        states, _ = self.gru(self.embedding(numbers))
        return self.output(states)


def batch(n):
    numbers = torch.randint(0, modulus, (n, length))
    return numbers, numbers.cumsum(1) % modulus


def loss_of(model, numbers, sums):
    return F.cross_entropy(model(numbers).flatten(0, 1), sums.flatten(), label_smoothing=0.05)


model = Summer()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

for step in range(500):
    loss = loss_of(model, *batch(64))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, *batch(1000)).item():.4f}")
