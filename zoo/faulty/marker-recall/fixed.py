"""Name the symbol that stood right after the marker in a short sequence."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(13)

n_symbols, length, marker = 8, 10, 8


def sequences(n):
    tokens = torch.randint(0, n_symbols, (n, length))
    place = torch.randint(0, length - 1, (n,))
    rows = torch.arange(n)
    tokens[rows, place] = marker
    label = tokens[rows, place + 1].clone()
    swap = torch.rand(n) < 0.05
    label[swap] = torch.randint(0, n_symbols, (int(swap.sum()),))
    return tokens, label


class Recaller(nn.Module):
    def __init__(self, n_embd=16, n_hidden=48):
        super().__init__()
        self.embed = nn.Embedding(n_symbols + 1, n_embd)
        self.rnn = nn.GRU(n_embd, n_hidden, batch_first=True)
        self.head = nn.Linear(n_hidden, n_symbols)

    def forward(self, tokens):
        states = self.rnn(self.embed(tokens))[0]
        return self.head(states[:, -1])


x_train, y_train = sequences(8000)
x_test, y_test = sequences(2000)
model = Recaller()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)

for step in range(500):
    ix = torch.randint(0, len(x_train), (64,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
