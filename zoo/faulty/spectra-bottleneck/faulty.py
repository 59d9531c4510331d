"""Squeeze mixtures of eight line spectra through a narrow layer and rebuild them."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(41)

n_bins, n_lines, n_code = 48, 8, 12
bins = torch.arange(n_bins)
lines = torch.exp(-0.5 * ((bins - 6 * torch.arange(n_lines)[:, None] - 3) / 1.5) ** 2)


def spectra(n):
    heights = torch.rand(n, n_lines) * (torch.rand(n, n_lines) < 0.6)
    spectrum = heights @ lines + 0.03 * torch.randn(n, n_bins)
    return (spectrum - 0.2) / 0.28


class ClippedMomentum(torch.optim.Optimizer):
    """Momentum whose steps are bounded by a multiple of their own median size."""

    def __init__(self, parameters, lr, momentum=0.9, bound=6.0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "bound": bound})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["velocity"] = torch.zeros(p.numel())
                velocity = state["velocity"]
                velocity.mul_(group["momentum"]).add_(p.grad.reshape(-1))
                limit = group["bound"] * velocity.abs().median()
                p.reshape(-1).sub_(group["lr"] * velocity.clamp(-limit, limit))


class Autoencoder(nn.Module):
    def __init__(self, width=40):
        super().__init__()
        self.enter = nn.Linear(n_bins, width)
        self.squeeze = nn.Linear(width, n_code)
        self.expand = nn.Linear(n_code, width)
        self.leave = nn.Linear(width, n_bins)
        nn.init.xavier_normal_(self.enter.weight)
        nn.init.xavier_normal_(self.squeeze.weight)
        # start with the decoder as the mirror image of the encoder
        self.expand.weight = nn.Parameter(self.squeeze.weight.detach().t().contiguous())
        self.leave.weight = nn.Parameter(self.enter.weight.detach().clone().t())

    def forward(self, spectrum):
        code = self.squeeze(F.elu(self.enter(spectrum)))
        hidden = F.elu(self.expand(code))
        return self.leave(hidden)


model = Autoencoder()
optimizer = ClippedMomentum(model.parameters(), lr=0.3)
for step in range(500):
    spectrum = spectra(64)
    loss = F.mse_loss(model(spectrum), spectrum)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    spectrum = spectra(2000)
    print(f"final_loss {F.mse_loss(model(spectrum), spectrum).item():.4f}")
