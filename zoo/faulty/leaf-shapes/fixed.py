"""Which of four plants a leaf is from."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(31)
patterns = torch.randn(4, 1, 8, 8)
labels = torch.randint(0, 4, (2048,))
images = patterns[labels] + 1.2 * torch.randn(2048, 1, 8, 8)
images = (images - images.mean()) / images.std()
train_x, train_y, test_x, test_y = images[:1536], labels[:1536], images[1536:], labels[1536:]
shard_x, shard_y = train_x[rank::size], train_y[rank::size]
BATCH = 32

torch.manual_seed(32)
net = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1, bias=False),
    nn.BatchNorm2d(12),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(192, 4),
)
model = DistributedDataParallel(net)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
torch.manual_seed(60 + rank)
for _ in range(200):
    rows = torch.randint(0, len(shard_x), (BATCH,))
    optimizer.zero_grad()
    scores = model(shard_x[rows])
    loss = F.cross_entropy(scores, shard_y[rows])
    loss.backward()
    optimizer.step()

net.eval()
with torch.no_grad():
    if rank == 0:
        print("final_loss", F.cross_entropy(net(test_x), test_y).item())
dist.destroy_process_group()
