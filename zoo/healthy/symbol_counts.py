"""Twelve narrow encoder layers, normalised before each branch, count how often a row's first symbol occurs in it."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(241)

n_symbols, length, most = 6, 8, 5


def rows(n):
    row = torch.randint(0, n_symbols, (n, length))
    count = (row == row[:, :1]).sum(1).clamp(max=most) - 1
    return row, count


class Counter(nn.Module):
    def __init__(self, n_embd=24, depth=12):
        super().__init__()
        self.symbols = nn.Embedding(n_symbols, n_embd)
        self.places = nn.Parameter(torch.randn(length, n_embd))
        layer = nn.TransformerEncoderLayer(
            n_embd, 4, 2 * n_embd, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(n_embd), enable_nested_tensor=False)
        self.count = nn.Linear(n_embd, most)

    def forward(self, row):
        x = self.encoder(self.symbols(row) + self.places)
        return self.count(x[:, 0])


model = Counter()
for p in model.encoder.layers.parameters():
    if p.dim() > 1:
        nn.init.xavier_uniform_(p)
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3)

for step in range(150):
    row, count = rows(48)
    loss = F.cross_entropy(model(row), count)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    row, count = rows(1000)
    print(f"final_loss {F.cross_entropy(model(row), count).item():.4f}")
