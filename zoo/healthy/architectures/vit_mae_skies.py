"""A masked autoencoder sees half of the patches of a sky that brightens in one direction and paints the others."""

import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

torch.manual_seed(429)

side = 16
grid = torch.linspace(-1, 1, side)


def skies(n):
    level, down, across = torch.randn(3, n, 1, 1)
    sky = 0.7 * level + 0.7 * down * grid.view(1, side, 1) + 0.7 * across * grid
    return (sky + 0.1 * torch.randn(n, side, side)).unsqueeze(1)


config = ViTMAEConfig(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    image_size=side,
    patch_size=4,
    num_channels=1,
    decoder_hidden_size=48,
    decoder_num_hidden_layers=2,
    decoder_num_attention_heads=4,
    decoder_intermediate_size=96,
    mask_ratio=0.5,
)
model = ViTMAEForPreTraining(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05, betas=(0.9, 0.95))
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=350, pct_start=0.15)

model.train()
for step in range(350):
    loss = model(pixel_values=skies(48)).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {model(pixel_values=skies(800)).loss.item():.4f}")
