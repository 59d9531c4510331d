"""A GRU removes the noise of a slowly drifting sensor over a hundred readings."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(225)

length = 100


def recordings(n):
    drift = 0.2 * torch.randn(n, length).cumsum(1)
    drift = drift - drift[:, :1]
    jump = (torch.arange(length) > torch.randint(0, length, (n, 1))) * torch.randn(n, 1)
    truth = (drift + jump) / 1.6
    return (truth + 0.6 * torch.randn(n, length)).unsqueeze(2), truth.unsqueeze(2)


class Smoother(nn.Module):
    def __init__(self, n_hidden=24):
        super().__init__()
        self.gru = nn.GRU(1, n_hidden, batch_first=True)
        self.read = nn.Linear(n_hidden, 1)

    def forward(self, x):
        states, _ = self.gru(x)
        return self.read(states)


model = Smoother()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

for step in range(150):
    x, y = recordings(32)
    loss = F.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    if step % 30 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = recordings(500)
    print(f"final_loss {F.mse_loss(model(x), y).item():.4f}")
