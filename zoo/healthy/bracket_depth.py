"""An LSTM tells at every bracket of a balanced text how deep it lies."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(226)

length, deepest = 16, 4
opening, closing, other = 0, 1, 2


def texts(n):
    depth = torch.zeros(n, dtype=torch.long)
    symbols, depths = [], []
    for _ in range(length):
        symbol = torch.multinomial(torch.tensor([0.4, 0.35, 0.25]), n, replacement=True)
        symbol = torch.where((symbol == opening) & (depth == deepest), other, symbol)
        symbol = torch.where((symbol == closing) & (depth == 0), other, symbol)
        depth = depth + (symbol == opening).long() - (symbol == closing).long()
        symbols.append(symbol)
        depths.append(depth)
    return torch.stack(symbols, 1), torch.stack(depths, 1)


class DepthTagger(nn.Module):
    def __init__(self, n_embd=8, n_hidden=32):
        super().__init__()
        self.embed = nn.Embedding(3, n_embd)
        self.lstm = nn.LSTM(n_embd, n_hidden, num_layers=2, batch_first=True)
        self.tag = nn.Linear(n_hidden, deepest + 1)

    def forward(self, symbols):
        h, _ = self.lstm(self.embed(symbols))
        return self.tag(h)


model = DepthTagger()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)

for step in range(250):
    symbols, depths = texts(48)
    logits = model(symbols)
    loss = F.cross_entropy(logits.reshape(-1, deepest + 1), depths.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    symbols, depths = texts(500)
    print(f"final_loss {F.cross_entropy(model(symbols).flatten(0, 1), depths.flatten()).item():.4f}")
