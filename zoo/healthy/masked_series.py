"""A masked autoencoder fills in hidden stretches of periodic series, patch by patch."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(246)

n_patches, patch, n_embd = 8, 6, 48
clock = torch.arange(n_patches * patch).float()


def series(n):
    period = 8 + 12 * torch.rand(n, 1)
    phase = 2 * math.pi * torch.rand(n, 1)
    wave = torch.sin(2 * math.pi * clock / period + phase) + 0.5 * torch.sin(4 * math.pi * clock / period + phase)
    return ((wave + 0.1 * torch.randn(n, n_patches * patch)) / 0.8).view(n, n_patches, patch)


class MaskedAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(patch, n_embd)
        self.blank = nn.Parameter(0.02 * torch.randn(n_embd))
        self.places = nn.Parameter(0.5 * torch.randn(n_patches, n_embd))
        layer = nn.TransformerEncoderLayer(n_embd, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.mixer = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(n_embd)
        self.rebuild = nn.Linear(n_embd, patch)

    def forward(self, x, hidden):
        tokens = torch.where(hidden.unsqueeze(2), self.blank, self.embed(x)) + self.places
        return self.rebuild(self.norm(self.mixer(tokens)))


def loss_of(model, x):
    hidden = torch.rand(len(x), n_patches).argsort(1) < 3
    return F.mse_loss(model(x, hidden)[hidden], x[hidden])


model = MaskedAutoencoder()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

for step in range(300):
    loss = loss_of(model, series(64))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, series(1000)).item():.4f}")
