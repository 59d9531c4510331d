"""ConvNeXt counts, from one to four, the round spots on a mottled ground."""

import torch
from transformers import ConvNextConfig, ConvNextForImageClassification

torch.manual_seed(426)

side, most = 16, 4
row, column = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
cells = torch.tensor([[3.5, 3.5], [3.5, 11.5], [11.5, 3.5], [11.5, 11.5]])


def grounds(n):
    count = torch.randint(1, most + 1, (n,))
    present = torch.rand(n, most).argsort(1).argsort(1) < count[:, None]
    centre = cells + 3 * torch.rand(n, most, 2) - 1.5
    y, x = row - centre[..., 0, None, None], column - centre[..., 1, None, None]
    spots = (torch.exp(-(x**2 + y**2) / 4) * present[..., None, None]).sum(1)
    colour = torch.tensor([1.0, 0.8, 0.5]).view(3, 1, 1)
    image = 3 * colour * (spots.unsqueeze(1) - 0.1) + 0.3 * torch.randn(n, 3, side, side)
    return image, count - 1


config = ConvNextConfig(
    patch_size=2,
    num_stages=2,
    hidden_sizes=[24, 48],
    depths=[2, 2],
    layer_scale_init_value=0.1,
    drop_path_rate=0.0,
    num_labels=most,
)
model = ConvNextForImageClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=30)

model.train()
for step in range(250):
    image, count = grounds(32)
    loss = model(pixel_values=image, labels=count).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    warm_up.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    image, count = grounds(600)
    print(f"final_loss {model(pixel_values=image, labels=count).loss.item():.4f}")
