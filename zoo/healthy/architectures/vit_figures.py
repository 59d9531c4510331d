"""A vision transformer tells squares, crosses, rings and bars in small grey pictures apart."""

import torch
from transformers import ViTConfig, ViTForImageClassification

torch.manual_seed(424)

side = 16
grid = torch.arange(side).float()


def pictures(n):
    figure = torch.randint(0, 4, (n,))
    centre = torch.randint(6, 10, (n, 2, 1, 1)).float()
    y, x = grid.view(1, side, 1) - centre[:, 0], grid.view(1, 1, side) - centre[:, 1]
    far = torch.maximum(x.abs(), y.abs())
    square = far <= 3
    cross = ((x.abs() <= 1) | (y.abs() <= 1)) & (far <= 5)
    ring = ((x**2 + y**2).sqrt() - 4).abs() <= 1
    bar = (y.abs() <= 1) & (x.abs() <= 5)
    drawn = torch.stack([square, cross, ring, bar], 1)[torch.arange(n), figure].float()
    return ((drawn - 0.3) / 0.45 + 0.4 * torch.randn(n, side, side)).unsqueeze(1), figure


config = ViTConfig(
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=128,
    image_size=side,
    patch_size=4,
    num_channels=1,
    num_labels=4,
    hidden_dropout_prob=0.1,
)
model = ViTForImageClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=250, pct_start=0.2)

model.train()
for step in range(250):
    picture, figure = pictures(48)
    loss = model(pixel_values=picture, labels=figure).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    picture, figure = pictures(1000)
    print(f"final_loss {model(pixel_values=picture, labels=figure).loss.item():.4f}")
