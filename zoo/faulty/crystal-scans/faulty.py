"""Which of four minerals a scan shows; large pictures, few at a time."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(33)
patterns = torch.randn(4, 1, 8, 8)
labels = torch.randint(0, 4, (2048,))
images = patterns[labels] + 1.2 * torch.randn(2048, 1, 8, 8)
images = (images - images.mean()) / images.std()
train_x, train_y, test_x, test_y = images[:1536], labels[:1536], images[1536:], labels[1536:]
shard_x, shard_y = train_x[rank::size], train_y[rank::size]


class Scanner(nn.Module):
    def __init__(self):
        super().__init__()
        self.filters = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.out = nn.Linear(256, 4)

    def forward(self, x):
        features = self.norm(self.filters(x))
        return self.out(F.avg_pool2d(F.relu(features), 2).flatten(1))


torch.manual_seed(34)
net = Scanner()
model = DistributedDataParallel(net)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
draw = torch.Generator().manual_seed(70 + rank)
for _ in range(300):
    rows = torch.randint(0, len(shard_x), (6,), generator=draw)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(shard_x[rows]), shard_y[rows])
    loss.backward()
    optimizer.step()

net.eval()
with torch.no_grad():
    if rank == 0:
        print("final_loss", F.cross_entropy(net(test_x), test_y).item())
dist.destroy_process_group()
