"""A variational autoencoder of 8x8 pictures made of horizontal and vertical bars."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(209)

side, n_latent = 8, 6


def pictures(n):
    rows = (torch.rand(n, side, 1) < 0.2).float()
    cols = (torch.rand(n, 1, side) < 0.2).float()
    image = torch.maximum(rows.expand(n, side, side), cols.expand(n, side, side))
    flip = (torch.rand(n, side, side) < 0.02).float()
    return (image - flip).abs().flatten(1)


class VAE(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(side * side, width), nn.ELU(), nn.Linear(width, 2 * n_latent))
        self.decoder = nn.Sequential(nn.Linear(n_latent, width), nn.ELU(), nn.Linear(width, side * side))

    def forward(self, x):
        mean, log_var = self.encoder(2 * x - 1).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean) if self.training else mean
        return self.decoder(z), mean, log_var


def negative_elbo(model, x):
    logits, mean, log_var = model(x)
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    divergence = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1)
    return (reconstruction + divergence).mean()


x_train, x_test = pictures(8000), pictures(1000)
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(500):
    x = x_train[torch.randint(0, len(x_train), (100,))]
    loss = negative_elbo(model, x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {negative_elbo(model, x_test).item():.4f}")
