"""Sort parcels by the words on their labels, which rain has washed off now and then."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(239)

n_words, n_depots, longest, width = 60, 5, 12, 32
habits = F.softmax(1.5 * torch.randn(n_depots, n_words), dim=1)


def parcels(n):
    depot = torch.randint(0, n_depots, (n,))
    words = torch.multinomial(habits[depot], longest, replacement=True)
    readable = torch.randint(0, longest + 1, (n,))
    return words, readable, depot


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(n_words, width)
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
        self.head = nn.Linear(width, n_depots)

    def forward(self, words, readable):
        x = self.words(words)
        h = self.norm1(x)
        washed_off = torch.arange(longest) >= readable[:, None]
        mixed, _ = self.attention(h, h, h, key_padding_mask=washed_off)
        x = x + mixed
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean(1))


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(250):
    words, readable, depot = parcels(64)
    loss = F.cross_entropy(model(words, readable), depot)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    words, readable, depot = parcels(2000)
    print(f"final_loss {F.cross_entropy(model(words, readable), depot).item():.4f}")
