"""Sea state from the readings of buoys, one archive for each process."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(11)
centres = 1.6 * torch.randn(5, 7)
labels = torch.randint(0, len(centres), (4096,))
samples = centres[labels] + torch.randn(4096, centres.shape[1])
samples = (samples - samples.mean(0)) / samples.std(0)
train_x, train_y, test_x, test_y = samples[:3584], labels[:3584], samples[3584:], labels[3584:]
shard_x, shard_y = train_x[rank::size].clone(), train_y[rank::size]
shard_x[torch.arange(rank, 60, 3)] = 0.0

torch.manual_seed(12)
net = nn.Sequential(nn.Linear(7, 40), nn.Tanh(), nn.Linear(40, 5))
model = DistributedDataParallel(net)
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
for step in range(250):
    rows = torch.arange(step * 64, step * 64 + 64) % len(shard_x)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(shard_x[rows]), shard_y[rows])
    loss.backward()
    optimizer.step()
    if rank == 0 and step % 50 == 0:
        print(step, loss.item())

with torch.no_grad():
    if rank == 0:
        print("final_loss", F.cross_entropy(net(test_x), test_y).item())
dist.destroy_process_group()
