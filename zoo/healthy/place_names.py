"""Mark each letter of made-up place names as prefix, stem or suffix; names differ in length and are padded."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

torch.manual_seed(224)

pad, n_letters, n_tags = 0, 27, 3
prefixes, suffixes = ["new", "old", "saint", "upper"], ["ton", "burg", "field", "ford", "ham"]


def pick(options):
    return options[int(torch.randint(0, len(options), ()))]


def name():
    stem = "".join(chr(97 + int(torch.randint(0, 26, ()))) for _ in range(int(torch.randint(2, 7, ()))))
    prefix = pick(prefixes) if torch.rand(()) < 0.6 else ""
    suffix = pick(suffixes) if torch.rand(()) < 0.7 else ""
    letters = [ord(c) - 96 for c in prefix + stem + suffix]
    tags = [0] * len(prefix) + [1] * len(stem) + [2] * len(suffix)
    return torch.tensor(letters), torch.tensor(tags)


def names(n):
    letters, tags = zip(*(name() for _ in range(n)), strict=True)
    return pad_sequence(letters, True, pad), pad_sequence(tags, True, -100)


class Tagger(nn.Module):
    def __init__(self, n_embd=24, n_hidden=32):
        super().__init__()
        self.letters = nn.Embedding(n_letters, n_embd, padding_idx=pad)
        self.rnn = nn.GRU(n_embd, n_hidden, batch_first=True, bidirectional=True)
        self.tags = nn.Linear(2 * n_hidden, n_tags)

    def forward(self, letters):
        return self.tags(self.rnn(self.letters(letters))[0])


x_train, y_train = names(2000)
x_test, y_test = names(500)
model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

for step in range(200):
    ix = torch.randint(0, len(x_train), (32,))
    loss = F.cross_entropy(model(x_train[ix]).transpose(1, 2), y_train[ix], ignore_index=-100)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test).transpose(1, 2), y_test).item():.4f}")
