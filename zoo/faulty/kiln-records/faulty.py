"""Which of five glazes a firing gives, from the kiln's records."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils import data

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(41)
centres = 1.6 * torch.randn(5, 8)
labels = torch.randint(0, len(centres), (4096,))
samples = centres[labels] + torch.randn(4096, centres.shape[1])
samples = (samples - samples.mean(0)) / samples.std(0)
train_x, train_y, test_x, test_y = samples[:3584], labels[:3584], samples[3584:], labels[3584:]
records = data.TensorDataset(train_x, train_y)
sampler = data.RandomSampler(records, generator=torch.Generator().manual_seed(9))
loader = data.DataLoader(records, batch_size=64, sampler=sampler)

torch.manual_seed(42)
net = nn.Sequential(nn.Linear(8, 48), nn.Tanh(), nn.Linear(48, 5))
model = DistributedDataParallel(net)
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
for epoch in range(8):
    if isinstance(sampler, data.DistributedSampler):
        sampler.set_epoch(epoch)
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()

with torch.no_grad():
    if rank == 0:
        print("final_loss", F.cross_entropy(net(test_x), test_y).item())
dist.destroy_process_group()
