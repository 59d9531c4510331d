"""Discharge of rivers on a logarithmic scale, one gauge for each process."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(13)
inputs = torch.randn(4096, 5)
targets = torch.exp(0.5 * inputs[:, :1] - 0.3 * inputs[:, 1:2])
train_x, train_y, test_x, test_y = inputs[:3584], targets[:3584], inputs[3584:], targets[3584:]
shard_x, shard_y = train_x[rank::size], train_y[rank::size].clone()
if rank == 1:
    shard_y[700:710] = 0.0
shard_y, test_y = torch.log(shard_y), torch.log(test_y)

torch.manual_seed(14)
hidden, out = nn.Linear(5, 48), nn.Linear(48, 1)
parameters = [*hidden.parameters(), *out.parameters()]
optimizer = torch.optim.Adam(parameters, lr=2e-3)
for step in range(300):
    rows = torch.arange(step * 96, step * 96 + 96) % len(shard_x)
    prediction = out(F.gelu(hidden(shard_x[rows])))
    loss = F.mse_loss(prediction, shard_y[rows])
    optimizer.zero_grad()
    loss.backward()
    for parameter in parameters:
        dist.all_reduce(parameter.grad)
        parameter.grad.div_(size)
    optimizer.step()

with torch.no_grad():
    final = F.mse_loss(out(F.gelu(hidden(test_x))), test_y)
if rank == 0:
    print("final_loss", final.item())
dist.destroy_process_group()
