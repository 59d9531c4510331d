"""Recognise the mode of a melody from the notes that follow its accents."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(32)

n_notes, n_modes, length = 10, 5, 16


def melodies(n):
    notes = torch.randint(0, n_notes, (length, n))
    accent = torch.randint(0, length - 1, (n,))
    mode = torch.randint(0, n_modes, (n,))
    columns = torch.arange(n)
    notes[accent, columns] = n_notes
    notes[accent + 1, columns] = 2 * mode + torch.randint(0, 2, (n,))
    return notes, mode


class ModeReader(nn.Module):
    def __init__(self, n_embd=16, width=32):
        super().__init__()
        self.embed = nn.Embedding(n_notes + 1, n_embd)
        self.rnn = nn.GRU(n_embd, width)
        self.query = nn.Linear(width, 1, bias=False)
        self.head = nn.Linear(width, n_modes)

    def forward(self, notes):
        states, _ = self.rnn(self.embed(notes))
        weights = F.softmax(self.query(states), dim=1)
        return self.head((weights * states).sum(0))


notes_train, mode_train = melodies(6000)
notes_test, mode_test = melodies(1000)
model = ModeReader()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

for step in range(400):
    ix = torch.randint(0, mode_train.numel(), (40,))
    loss = F.cross_entropy(model(notes_train[:, ix]), mode_train[ix])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(notes_test), mode_test).item():.4f}")
