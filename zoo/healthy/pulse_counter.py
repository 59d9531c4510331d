"""Count the pulses in a noisy trace; four micro-batches make one update."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(213)

length, most = 48, 4
accumulate = 4


def traces(n):
    count = torch.randint(0, most + 1, (n,))
    where = torch.rand(n, length).argsort(dim=1)[:, :most]
    present = (torch.arange(most) < count.unsqueeze(1)).float()
    x = torch.zeros(n, length).scatter_(1, where, 3.0 * present)
    return (x + 0.4 * torch.randn(n, length)).unsqueeze(1), count


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv1d(16, 16, 5, padding=2)
        self.out = nn.Linear(16, most + 1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x):
        x = F.gelu(self.conv1(x))
        x = F.gelu(self.conv2(x))
        return self.out(x.mean(dim=2) * 4)


model = Counter()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
running = 0.0

for micro in range(4 * 250):
    x, y = traces(16)
    loss = F.cross_entropy(model(x), y) / accumulate
    loss.backward()
    running += loss.item()
    if (micro + 1) % accumulate == 0:
        optimizer.step()
        optimizer.zero_grad()
        if (micro + 1) % 200 == 4:
            print(f"update {(micro + 1) // accumulate:4d}  loss {running:.4f}")
        running = 0.0

model.eval()
with torch.no_grad():
    x, y = traces(2000)
    print(f"final_loss {F.cross_entropy(model(x), y).item():.4f}")
