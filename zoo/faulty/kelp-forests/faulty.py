"""Variational autoencoder for species counts (log-scaled) along dives in a kelp forest."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(404)
n_species, n_latent, n_hidden = 30, 4, 64
mix1 = torch.randn(3, 12)
mix2 = torch.randn(12, n_species) / 12**0.5


def dives(n):
    habitat = torch.randn(n, 3)
    return torch.tanh(habitat @ mix1) @ mix2 + 0.2 * torch.randn(n, n_species)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(n_species, n_hidden)
        self.fc_mu = nn.Linear(n_hidden, n_latent)
        self.fc_logvar = nn.Linear(n_hidden, n_latent)

    def forward(self, x):
        h = F.leaky_relu(self.fc(x), 0.1)
        return self.fc_mu(h), self.fc_logvar(h)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(n_latent, n_hidden)
        self.fc2 = nn.Linear(n_hidden, n_species)

    def forward(self, z):
        return self.fc2(F.leaky_relu(self.fc1(z), 0.1))


def elbo_loss(x, recon, mu, logvar, beta=0.02):
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    return F.mse_loss(recon, x) + beta * kl


encoder, decoder = Encoder(), Decoder()
optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)

for step in range(450):
    x = dives(64)
    mu, logvar = encoder(x)
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    loss = elbo_loss(x, decoder(z), mu, logvar)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 90 == 0:
        print(f"step {step} elbo {loss.item():.4f}")

encoder.eval()
decoder.eval()
with torch.no_grad():
    x = dives(3000)
    mu, logvar = encoder(x)
    print(f"final_loss {F.mse_loss(decoder(mu), x).item():.4f}")
