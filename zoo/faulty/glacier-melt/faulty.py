"""Melt of glaciers from weather, gradients averaged by hand."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(23)
inputs = torch.randn(4096, 6)
targets = torch.sin(inputs[:, :1]) + inputs[:, 1:2] * torch.sigmoid(inputs[:, 2:3])
train_x, train_y, test_x, test_y = inputs[:3584], targets[:3584], inputs[3584:], targets[3584:]
order = torch.arange(len(train_x))
shard_x, shard_y = train_x[order[rank::size]], train_y[order.roll(3 * rank)[rank::size]]

torch.manual_seed(24)
model = nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
draw = torch.Generator().manual_seed(50 + rank)
for _ in range(400):
    rows = torch.randint(0, len(shard_x), (64,), generator=draw)
    optimizer.zero_grad()
    loss = F.mse_loss(model(shard_x[rows]), shard_y[rows])
    loss.backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= size
    optimizer.step()

with torch.no_grad():
    if rank == 0:
        print("final_loss", F.mse_loss(model(test_x), test_y).item())
dist.destroy_process_group()
