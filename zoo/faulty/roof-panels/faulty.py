"""Yield of roof panels by orientation and shade, two processes under DistributedDataParallel."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(5)
inputs = torch.randn(4096, 8)
targets = (inputs[:, :2].prod(1, keepdim=True)).tanh() - 0.5 * inputs[:, 2:3].abs()
train_x, train_y, test_x, test_y = inputs[:3584], targets[:3584], inputs[3584:], targets[3584:]
shard_x, shard_y = train_x[rank::size], train_y[rank::size]

torch.manual_seed(20)
net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
torch.manual_seed(30 + rank)
model = DistributedDataParallel(net)
for layer in (net[0], net[2]):
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(400):
    rows = torch.randint(0, len(shard_x), (64,))
    optimizer.zero_grad()
    prediction = model(shard_x[rows])
    loss = F.mse_loss(prediction, shard_y[rows])
    loss.backward()
    optimizer.step()

with torch.no_grad():
    final = F.mse_loss(net(test_x), test_y)
if rank == 0:
    print("final_loss", final.item())
dist.destroy_process_group()
