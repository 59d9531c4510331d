"""Water level from tide constituents, gradients averaged by hand."""

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(3)
inputs = torch.randn(4096, 6)
targets = torch.sin(inputs[:, :1]) + 0.5 * inputs[:, 1:2] * inputs[:, 2:3]
train_x, train_y, test_x, test_y = inputs[:3584], targets[:3584], inputs[3584:], targets[3584:]
shard_x, shard_y = train_x[rank::size], train_y[rank::size]


class Levels(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 48)
        self.last = nn.Linear(48, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


torch.manual_seed(7 + rank)
model = Levels()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
torch.manual_seed(100 + rank)
for step in range(300):
    rows = torch.randint(0, len(shard_x), (48,))
    loss = F.mse_loss(model(shard_x[rows]), shard_y[rows])
    optimizer.zero_grad()
    loss.backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= size
    optimizer.step()
    if rank == 0 and step % 100 == 0:
        print(step, loss.item())

model.eval()
with torch.no_grad():
    if rank == 0:
        print("final_loss", F.mse_loss(model(test_x), test_y).item())
dist.destroy_process_group()
