"""Add up the gusts that lift a kite to tell how high it flies in the end."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(251)

n_gusts, n_hidden = 80, 40


def flights(n):
    gusts = torch.randn(n, n_gusts, 2)
    counts = (torch.rand(n, n_gusts) < 0.1).float()
    gusts[:, :, 1] = 2 * counts - 0.2
    return gusts, (gusts[:, :, 0] * counts).sum(1) / 8**0.5


class Kite(nn.Module):
    def __init__(self):
        super().__init__()
        self.wind = nn.RNN(2, n_hidden, nonlinearity="relu", batch_first=True)
        self.height = nn.Linear(n_hidden, 1)
        with torch.no_grad():
            self.wind.weight_ih_l0.mul_(0.3)
            self.wind.bias_ih_l0.zero_()
            self.wind.bias_hh_l0.zero_()
            self.wind.weight_hh_l0.copy_(1.12 * torch.eye(n_hidden))

    def forward(self, gusts):
        states, _ = self.wind(gusts)
        return self.height(states[:, -1]).squeeze(1)


model = Kite()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(300):
    gusts, height = flights(64)
    loss = F.mse_loss(model(gusts), height)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    gusts, height = flights(2000)
    print(f"final_loss {F.mse_loss(model(gusts), height).item():.4f}")
