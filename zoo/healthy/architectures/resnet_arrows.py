"""A residual network with batch normalisation, trained by SGD with momentum, reads which way arrows point."""

import torch
from transformers import ResNetConfig, ResNetForImageClassification

torch.manual_seed(427)

side = 16
grid = torch.arange(side).float()


def arrows(n):
    way = torch.randint(0, 4, (n,))
    tip, middle = torch.randint(9, 13, (n, 1, 1)).float(), torch.randint(6, 10, (n, 1, 1)).float()
    x, y = grid.view(1, 1, side) - tip, (grid.view(1, side, 1) - middle).abs()
    head = (x <= 0) & (x >= -3) & (y <= -x)
    shaft = (x < -3) & (x >= -7) & (y <= 0.5)
    image = (head | shaft).float()
    image = torch.stack([image.rot90(k, (1, 2)) for k in range(4)], 1)[torch.arange(n), way]
    tint = torch.rand(n, 3, 1, 1) + 0.5
    return 3 * tint * (image.unsqueeze(1) - 0.1) + 0.4 * torch.randn(n, 3, side, side), way


config = ResNetConfig(
    embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic", hidden_act="relu", num_labels=4
)
model = ResNetForImageClassification(config)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 250)

model.train()
for step in range(250):
    image, way = arrows(48)
    loss = model(pixel_values=image, labels=way).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    image, way = arrows(1000)
    print(f"final_loss {model(pixel_values=image, labels=way).loss.item():.4f}")
