"""Tell which of six textures fills the window hidden in a picture of noise."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(37)

n_textures, side, patch = 6, 16, 4
textures = torch.sign(torch.randn(n_textures, patch, patch)).repeat(1, 2, 2)


def pictures(n):
    label = torch.randint(0, n_textures, (n,))
    picture = torch.randn(n, side, side)
    corner = patch * torch.randint(0, side // patch - 1, (n, 2))
    rows = corner[:, :1, None] + torch.arange(8)[None, :, None]
    cols = corner[:, 1:, None] + torch.arange(8)[None, None, :]
    picture[torch.arange(n)[:, None, None], rows, cols] += 0.9 * textures[label]
    return picture.unsqueeze(1), label


class PatchNet(nn.Module):
    def __init__(self, n_embd=8, width=32):
        super().__init__()
        self.patches = nn.Conv2d(1, n_embd, patch, stride=patch)
        self.places = nn.Parameter(0.2 * torch.randn((side // patch) ** 2, n_embd))
        self.norm1 = nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * width)
        self.out = nn.Linear(width, n_embd)
        self.norm2 = nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 64), nn.GELU(), nn.Linear(64, n_embd))
        self.norm3 = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, n_textures)

    def forward(self, picture):
        x = self.patches(picture).flatten(2).transpose(1, 2) + self.places
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=2)
        weights = F.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[2]), dim=2)
        x = x + self.out(weights @ v)
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm3(x).mean(1))


def parameter_groups(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


model = PatchNet()
optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=3e-3)
for step in range(500):
    picture, label = pictures(64)
    loss = F.cross_entropy(model(picture), label)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    picture, label = pictures(2000)
    print(f"final_loss {F.cross_entropy(model(picture), label).item():.4f}")
