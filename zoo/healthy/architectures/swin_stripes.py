"""Swin, with shifted windows and dropped paths, tells the direction of stripes."""

import math

import torch
from transformers import SwinConfig, SwinForImageClassification

torch.manual_seed(425)

side, n_directions = 16, 4
row, column = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")


def stripes(n):
    direction = torch.randint(0, n_directions, (n,))
    angle = (math.pi * direction / n_directions).view(n, 1, 1) + 0.1 * torch.randn(n, 1, 1)
    wave = 2 * math.pi / (4 + 3 * torch.rand(n, 1, 1))
    phase = 2 * math.pi * torch.rand(n, 1, 1)
    image = torch.sin(wave * (row * angle.sin() + column * angle.cos()) + phase)
    tint = 0.7 + 0.6 * torch.rand(n, 3, 1, 1)
    return tint * image.unsqueeze(1) + 0.5 * torch.randn(n, 3, side, side), direction


config = SwinConfig(
    image_size=side,
    patch_size=2,
    embed_dim=24,
    depths=[2, 2],
    num_heads=[2, 4],
    window_size=4,
    mlp_ratio=2.0,
    drop_path_rate=0.1,
    num_labels=n_directions,
)
model = SwinForImageClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=30)

model.train()
for step in range(180):
    image, direction = stripes(32)
    loss = model(pixel_values=image, labels=direction).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    warm_up.step()
    if step % 30 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    image, direction = stripes(600)
    print(f"final_loss {model(pixel_values=image, labels=direction).loss.item():.4f}")
