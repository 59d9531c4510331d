"""Convolutional VAE on little drawn faces (16x16)."""

import torch
import torch.nn.functional as F
from torch import nn, optim

torch.manual_seed(0)
LATENT = 8
side = torch.linspace(-1, 1, 16)
Y, X = torch.meshgrid(side, side, indexing="ij")


def blob(x, y, rx, ry):
    x, y, rx, ry = (v.view(-1, 1, 1) for v in (x, y, rx, ry))
    return torch.sigmoid(8 * (1 - ((X - x) / rx) ** 2 - ((Y - y) / ry) ** 2))


def faces(n):
    u = torch.rand(n, 6)
    w, h = 0.6 + 0.3 * u[:, 0], 0.7 + 0.25 * u[:, 1]
    gap, eye, mouth, tone = 0.2 + 0.2 * u[:, 2], 0.08 + 0.1 * u[:, 3], 0.15 + 0.35 * u[:, 4], 0.5 + 0.4 * u[:, 5]
    zero = torch.zeros(n)
    img = blob(zero, zero, w, h) * tone.view(-1, 1, 1)
    img = img - 0.5 * (blob(-gap, zero - 0.25, eye, eye) + blob(gap, zero - 0.25, eye, eye))
    img = img - 0.4 * blob(zero, zero + 0.45, mouth, zero + 0.1)
    return img.clamp(0, 1).unsqueeze(1)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 4, stride=2, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 4, 128)
        self.fc21 = nn.Linear(128, LATENT)
        self.fc22 = nn.Linear(128, LATENT)
        self.fc3 = nn.Linear(LATENT, 128)
        self.fc4 = nn.Linear(128, 32 * 4 * 4)
        self.deconv1 = nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)

    def encode(self, x):
        h = F.relu(self.conv1(x))
        h = F.relu(self.conv2(h))
        h = F.relu(self.fc1(h.flatten(1)))
        return self.fc21(h), self.fc22(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h = F.relu(self.fc3(z))
        h = F.relu(self.fc4(h)).view(-1, 32, 4, 4)
        return torch.sigmoid(self.deconv2(F.relu(self.deconv1(h))))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    bce = F.binary_cross_entropy(recon_x, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


train_data, test_data = faces(4096), faces(512)
model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(1, 8):
    model.train()
    train_loss = 0
    for batch_idx, data in enumerate(train_data[torch.randperm(4096)].split(64)):
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        if batch_idx % 32 == 0:
            print(f"Train Epoch: {epoch} [{batch_idx * 64}/4096]\tLoss: {loss.item() / len(data):.4f}")
    print(f"====> Epoch: {epoch} Average loss: {train_loss / 4096:.4f}")

model.eval()
with torch.no_grad():
    recon, mu, logvar = model(test_data)
    mse = F.mse_loss(model.decode(mu), test_data)
    mean_face = train_data.mean(0).expand_as(test_data)
    print(f"reconstruction mse {mse:.4f}, of the mean face {F.mse_loss(mean_face, test_data):.4f}")
    print(f"elbo of the mean face {F.binary_cross_entropy(mean_face, test_data, reduction='sum') / 512:.4f}")
    print(f"final_loss {loss_function(recon, test_data, mu, logvar).item() / 512:.4f}")
