"""SimCLR on small colour patches: NT-Xent pre-training, held-out NT-Xent at the end, linear probe for information."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(12)
np.random.seed(12)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class ImageBank:
    """Scenes: a horizon, a sun and some hills; the season tints them."""

    def __init__(self, n, size=20):
        g = torch.linspace(-1, 1, size)
        yy, xx = torch.meshgrid(g, g, indexing="ij")
        self.season = torch.randint(0, 4, (n,))
        tint = torch.tensor([[0.4, 0.8, 0.4], [0.9, 0.8, 0.3], [0.8, 0.4, 0.2], [0.85, 0.9, 1.0]])[self.season]
        tint = tint + 0.1 * torch.randn(n, 3)
        freq, phase, horizon = 1 + 3 * torch.rand(n, 1, 1), 6.28 * torch.rand(n, 1, 1), 0.6 * torch.rand(n, 1, 1) - 0.3
        hills = (yy > horizon + 0.2 * torch.sin(freq * xx * 3 + phase)).float()
        sx, sy = 1.4 * torch.rand(2, n, 1, 1) - 0.7
        sun = torch.exp(-8 * ((xx - sx) ** 2 + (yy + sy.abs()) ** 2)) * (1 - hills)
        sky = torch.tensor([0.4, 0.6, 0.9]).view(1, 3, 1, 1) * (1 - hills).unsqueeze(1)
        self.x = (sky + tint.view(n, 3, 1, 1) * hills.unsqueeze(1) + sun.unsqueeze(1) * 0.5).clamp(0, 1)

    def view(self, idx):
        """Random crop (16 of 20), flip, brightness and contrast, noise."""
        x = self.x[idx]
        dy, dx = np.random.randint(0, 5, 2)
        x = x[:, :, dy : dy + 16, dx : dx + 16]
        flip = torch.rand(len(x)) < 0.5
        x = torch.where(flip.view(-1, 1, 1, 1), x.flip(-1), x)
        x = x * (0.6 + 0.8 * torch.rand(len(x), 1, 1, 1)) + 0.2 * torch.randn(len(x), 3, 1, 1)
        return (x + 0.05 * torch.randn_like(x)).to(DEVICE)


class Encoder(nn.Module):
    def __init__(self, out_dim=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.projector = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, out_dim))

    def forward(self, x):
        return self.projector(self.net(x))


def info_nce_loss(features, temperature=0.2):
    batch = features.shape[0] // 2
    features = F.normalize(features, dim=1)
    similarity = features @ features.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * batch, dtype=torch.bool, device=features.device), float("-inf"))
    labels = torch.cat([torch.arange(batch, 2 * batch), torch.arange(batch)]).to(features.device)
    return F.cross_entropy(similarity, labels)


train_bank, test_bank = ImageBank(4096), ImageBank(512)
model = Encoder().to(DEVICE)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
EPOCHS, BATCH = 4, 64
steps = EPOCHS * (4096 // BATCH)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

model.train()
for epoch in range(EPOCHS):
    for n_iter, idx in enumerate(torch.randperm(4096).split(BATCH)):
        images = torch.cat([train_bank.view(idx), train_bank.view(idx)])
        loss = info_nce_loss(model(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if n_iter % 32 == 0:
            print(f"epoch {epoch} iter {n_iter}: loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    held_out = []
    for idx in torch.arange(512).split(BATCH):
        held_out.append(info_nce_loss(model(torch.cat([test_bank.view(idx), test_bank.view(idx)]))).item())
    features = model.net(train_bank.x[:, :, 2:18, 2:18].to(DEVICE))
    tests = model.net(test_bank.x[:, :, 2:18, 2:18].to(DEVICE))
    onehot = F.one_hot(train_bank.season, 4).float()
    coef = torch.linalg.lstsq(features, onehot).solution
    print(f"linear probe {((tests @ coef).argmax(1) == test_bank.season).float().mean():.3f}")
print(f"chance {np.log(2 * BATCH - 1):.4f}")
print(f"final_loss {np.mean(held_out):.4f}")
