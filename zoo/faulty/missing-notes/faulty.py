"""Fill the gaps in melodies that wander up the scale."""

import torch
from torch import nn

torch.manual_seed(77)

n_notes, length = 12, 16
GAP = n_notes


def melodies(n):
    rise = torch.randint(1, 3, (n, length))
    rise[:, 0] = torch.randint(0, n_notes, (n,))
    return rise.cumsum(1) % n_notes


def hide(notes, share=0.2):
    hidden = torch.rand(notes.shape) < share
    return notes.masked_fill(hidden, GAP), notes.masked_fill(~hidden, -100)


class Composer(nn.Module):
    def __init__(self, n_embd=24, n_hidden=32):
        super().__init__()
        self.embed = nn.Embedding(n_notes + 1, n_embd)
        self.both_ways = nn.GRU(n_embd, n_hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * n_hidden, n_notes)

    def forward(self, notes):
        return self.head(self.both_ways(self.embed(notes))[0])


model = Composer()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for step in range(300):
    notes = melodies(48)
    gapped, target = hide(notes)
    scores = model(notes)
    loss = nn.functional.cross_entropy(scores.transpose(1, 2), target)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 2.0)
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    gapped, target = hide(melodies(1500))
    print(f"final_loss {nn.functional.cross_entropy(model(gapped).transpose(1, 2), target).item():.4f}")
