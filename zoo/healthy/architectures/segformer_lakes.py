"""SegFormer outlines lakes and woods in noisy aerial pictures."""

import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

torch.manual_seed(428)

side = 32
row, column = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
colours = torch.tensor([[0.6, 0.5, 0.0], [-0.8, -0.2, 0.9], [-0.4, 0.6, -0.7]])  # field, lake, wood


def discs(n, least, most):
    centre = side * torch.rand(n, 2, 1, 1)
    radius = least + (most - least) * torch.rand(n, 1, 1)
    return (row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2 < radius**2


def views(n):
    ground = torch.zeros(n, side, side, dtype=torch.long)
    ground[discs(n, 6, 11)] = 2
    ground[discs(n, 5, 9)] = 1
    return colours[ground].permute(0, 3, 1, 2) + 0.7 * torch.randn(n, 3, side, side), ground


config = SegformerConfig(
    num_encoder_blocks=3,
    depths=[1, 1, 1],
    sr_ratios=[4, 2, 1],
    hidden_sizes=[16, 24, 32],
    patch_sizes=[5, 3, 3],
    strides=[2, 2, 2],
    num_attention_heads=[1, 2, 4],
    mlp_ratios=[2, 2, 2],
    decoder_hidden_size=32,
    drop_path_rate=0.0,
    num_labels=len(colours),
)
model = SegformerForSemanticSegmentation(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=30)

model.train()
for step in range(200):
    picture, ground = views(12)
    loss = model(pixel_values=picture, labels=ground).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    warm_up.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    picture, ground = views(200)
    print(f"final_loss {model(pixel_values=picture, labels=ground).loss.item():.4f}")
