"""Store a short sound as a network of sines that maps time to pressure, and ask for the moments in between."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(216)

omega = 30.0


def sound(t):
    swell = torch.exp(-2 * (t - 0.2) ** 2)
    return swell * (torch.sin(25 * t) + 0.6 * torch.sin(41 * t + 1) + 0.4 * torch.sin(60 * t * (1 + 0.1 * t)))


class Sine(nn.Module):
    def __init__(self, fan_in, width, first=False):
        super().__init__()
        self.linear = nn.Linear(fan_in, width)
        bound = 1 / fan_in if first else math.sqrt(6 / fan_in) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(omega * self.linear(x))


model = nn.Sequential(Sine(1, 48, first=True), Sine(48, 48), Sine(48, 48), nn.Linear(48, 1))
with torch.no_grad():
    bound = math.sqrt(6 / 48) / omega
    model[3].weight.uniform_(-bound, bound)
    model[3].bias.zero_()

grid = torch.linspace(-1, 1, 801).unsqueeze(1)
t_train, t_test = grid[0::2], grid[1::2]
p_train, p_test = sound(t_train), sound(t_test)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)

for step in range(400):
    ix = torch.randint(0, len(t_train), (128,))
    loss = F.mse_loss(model(t_train[ix]), p_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.5f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.mse_loss(model(t_test), p_test).item():.5f}")
