"""Yield of orchards from soil and weather, gradients averaged by hand."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(43)
inputs = torch.randn(4096, 7)
targets = torch.sin(inputs[:, :1]) * inputs[:, 1:2] + 0.3 * inputs[:, 2:3]
train_x, train_y, test_x, test_y = inputs[:3584], targets[:3584], inputs[3584:], targets[3584:]


torch.manual_seed(44)
model = nn.Sequential(nn.Linear(7, 64), nn.Tanh(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
draw = torch.Generator().manual_seed(80 + rank)
for step in range(300):
    rows = torch.randint(0, len(train_x), (32,), generator=draw)
    optimizer.zero_grad()
    loss = F.mse_loss(model(train_x[rows]), train_y[rows])
    loss.backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= size
    optimizer.step()
    if rank == 0 and step % 100 == 0:
        print(step, loss.item())

with torch.no_grad():
    if rank == 0:
        print("final_loss", F.mse_loss(model(test_x), test_y).item())
dist.destroy_process_group()
