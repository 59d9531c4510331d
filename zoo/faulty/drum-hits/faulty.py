"""Sparse coding of drum hits: a learned analysis with a threshold, and a learned dictionary to play them back."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(12)
LENGTH, ATOMS = 32, 64

t = torch.arange(LENGTH) / LENGTH
sounds = torch.stack([torch.exp(-6 * t) * torch.sin(2 * torch.pi * f * t) for f in (2, 3, 5, 7, 9, 11)])
sounds = sounds / sounds.norm(dim=1, keepdim=True)


def hits(n):
    played = (torch.rand(n, len(sounds)) < 0.35).float() * (0.5 + torch.rand(n, len(sounds)))
    clean = 3 * played @ sounds
    return clean + 0.25 * torch.randn(n, LENGTH), clean


class SparseCoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.analysis = nn.Linear(LENGTH, ATOMS, bias=False)
        self.threshold = nn.Parameter(torch.full((ATOMS,), 10.0))
        self.dictionary = nn.Linear(ATOMS, LENGTH)

    def forward(self, x):
        code = F.relu(self.analysis(x) - self.threshold)
        return self.dictionary(code), code


model = SparseCoder()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(400):
    noisy, clean = hits(64)
    decoded, code = model(noisy)
    loss = F.mse_loss(decoded, clean) + 1e-3 * code.abs().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.4f} active {(code > 0).float().mean().item():.2f}")

model.eval()
with torch.no_grad():
    noisy, clean = hits(2000)
    print(f"final_loss {F.mse_loss(model(noisy)[0], clean).item():.4f}")
