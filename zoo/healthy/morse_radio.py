"""Decode Morse from a noisy receiver: convolutions, a bidirectional GRU and CTC."""

import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence

random.seed(73)
torch.manual_seed(73)

CODE = {"a": ".-", "d": "-..", "e": ".", "i": "..", "n": "-.", "o": "---", "r": ".-.", "s": "...", "t": "-"}
LETTERS = "_" + "".join(CODE)


def transmit(text):
    unit, signal = random.choice([3, 4]), []
    for letter in text:
        for mark in CODE[letter]:
            signal += [1.0] * (unit * (3 if mark == "-" else 1)) + [0.0] * unit
        signal += [0.0] * (2 * unit)
    signal = [0.0] * random.randint(2, 6) + signal
    x = torch.tensor(signal)
    return x * (0.7 + 0.6 * random.random()) + 0.2 * torch.randn(len(x))


def get_batch(n):
    texts = ["".join(random.choice(LETTERS[1:]) for _ in range(random.randint(2, 4))) for _ in range(n)]
    waves = [transmit(t) for t in texts]
    lengths = torch.tensor([len(w) for w in waves])
    targets = torch.tensor([LETTERS.index(c) for t in texts for c in t])
    return pad_sequence(waves, batch_first=True), lengths, targets, torch.tensor([len(t) for t in texts])


class Decoder(nn.Module):
    def __init__(self, width=32, hidden=48):
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(1, width, 7, stride=2, padding=3),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.rnn = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, len(LETTERS))

    def forward(self, x):
        h = self.front(x.unsqueeze(1)).transpose(1, 2)
        h, _ = self.rnn(h)
        return self.out(h).log_softmax(-1)


model = Decoder()
ctc = nn.CTCLoss(blank=0, zero_infinity=True)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


def compute_loss(batch):
    x, lengths, targets, target_lengths = batch
    log_probs = model(x).transpose(0, 1)
    return ctc(log_probs, targets, (lengths + 3) // 4, target_lengths)


for step in range(340):
    loss = compute_loss(get_batch(32))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  ctc {loss.item():.3f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {compute_loss(get_batch(600)).item():.4f}")
