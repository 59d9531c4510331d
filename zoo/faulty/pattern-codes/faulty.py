"""Compress noisy mixtures of patterns into six numbers and rebuild them."""

import torch
from torch import nn

torch.manual_seed(61)

n_pixels, n_codes = 36, 6
patterns = torch.randn(n_codes, n_pixels) / n_codes**0.5


def mixtures(n):
    return torch.tanh(torch.randn(n, n_codes)) @ patterns * 1.5 + 0.1 * torch.randn(n, n_pixels)


encoder = nn.Sequential(nn.Linear(n_pixels, 32), nn.ELU(), nn.Linear(32, n_codes))
decoder = nn.Sequential(nn.Linear(n_codes, 32), nn.ELU(), nn.Linear(32, n_pixels))
weights = [*encoder.parameters(), *decoder.parameters()]
optimizer = torch.optim.Adam(weights, lr=1e-3, betas=(0.9, 0.99), maximize=True)
criterion = nn.MSELoss()

for step in range(500):
    batch = mixtures(64)
    loss = criterion(decoder(encoder(batch)), batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    batch = mixtures(2000)
    print(f"final_loss {criterion(decoder(encoder(batch)), batch).item():.4f}")
