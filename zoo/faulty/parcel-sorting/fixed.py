"""Which of six chutes a parcel goes to, from its measurements."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(21)
centres = 1.6 * torch.randn(6, 9)
labels = torch.randint(0, len(centres), (4096,))
samples = centres[labels] + torch.randn(4096, centres.shape[1])
samples = (samples - samples.mean(0)) / samples.std(0)
train_x, train_y, test_x, test_y = samples[:3584], labels[:3584], samples[3584:], labels[3584:]
shard_x, shard_y = train_x[rank::size], train_y[rank::size]

torch.manual_seed(22)
net = nn.Sequential(nn.Linear(9, 64), nn.ReLU(), nn.Linear(64, 6))
model = DistributedDataParallel(net)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
torch.manual_seed(40 + rank)
for step in range(300):
    rows = torch.randint(0, len(shard_x), (64,))
    chute = shard_y[rows]
    optimizer.zero_grad()
    loss = F.cross_entropy(model(shard_x[rows]), chute)
    loss.backward()
    optimizer.step()
    if rank == 0 and step % 100 == 0:
        print(step, loss.item())

with torch.no_grad():
    if rank == 0:
        print("final_loss", F.cross_entropy(net(test_x), test_y).item())
dist.destroy_process_group()
