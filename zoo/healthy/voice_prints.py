"""Learn a distance between voices: two recordings of one speaker lie closer together than those of two speakers."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(231)

n_speakers, n_traits, n_bands = 60, 5, 24
speakers = torch.randn(n_speakers, n_traits)
voice = torch.randn(n_traits, n_bands) / n_traits**0.5
speech = torch.randn(8, n_bands) / 8**0.5


def record(who):
    noise = torch.randn(len(who), 8)
    bands = torch.tanh(speakers[who] @ voice) + 1.2 * noise @ speech + 0.1 * torch.randn(len(who), n_bands)
    return bands / 1.4


def triplets(n, low, high):
    who = torch.randint(low, high, (n,))
    other = (who - low + torch.randint(1, high - low, (n,))) % (high - low) + low
    return record(who), record(who), record(other)


class VoicePrint(nn.Module):
    def __init__(self, width=96, n_out=8):
        super().__init__()
        self.hear = nn.Linear(n_bands, width)
        self.think = nn.Linear(width, width)
        self.print = nn.Linear(width, n_out)

    def forward(self, x):
        h = F.silu(self.hear(x))
        h = F.silu(self.think(h))
        return F.normalize(self.print(h), dim=1)


model = VoicePrint()
criterion = nn.TripletMarginLoss(margin=0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(400):
    anchor, same, other = (model(x) for x in triplets(64, 0, 45))
    loss = criterion(anchor, same, other)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {criterion(*(model(x) for x in triplets(2000, 45, 60))).item():.4f}")
