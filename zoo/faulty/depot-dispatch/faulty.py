"""Learn which open depot a dispatcher picks for each order."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(28)

n_depots, n_traits = 10, 8
distance, load = torch.randn(n_traits, n_depots), torch.randn(n_traits, n_depots)


def orders(n):
    traits = torch.randn(n, n_traits)
    appeal = torch.tanh(traits @ distance) + 0.5 * (traits @ load).abs() + 0.3 * torch.randn(n, n_depots)
    closed = torch.rand(n, n_depots) < 0.5
    closed[torch.arange(n), torch.randint(0, n_depots, (n,))] = False
    return traits, closed, appeal.masked_fill(closed, float("-inf")).argmax(1)


class Dispatcher(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed = nn.Linear(n_traits, width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, n_depots)

    def forward(self, traits, closed):
        x = self.embed(traits)
        x = x + self.down(F.silu(self.up(x)))
        scores = self.score(F.silu(self.norm(x)))
        return F.log_softmax(scores, dim=1).masked_fill(closed, float("-inf"))


model = Dispatcher()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.95))

for step in range(500):
    traits, closed, depot = orders(96)
    loss = F.nll_loss(model(traits, closed), depot)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    traits, closed, depot = orders(3000)
    print(f"final_loss {F.nll_loss(model(traits, closed), depot).item():.4f}")
