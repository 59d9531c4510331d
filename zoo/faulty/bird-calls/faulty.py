"""Continue the song of a bird, syllable by syllable."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(229)

n_syllables, length, width = 12, 20, 32
motifs = [torch.randint(0, n_syllables, (k,)).tolist() for k in (3, 4, 4, 5)]


def songs(n):
    batch = []
    for _ in range(n):
        song = []
        while len(song) <= length:
            song += motifs[int(torch.randint(0, len(motifs), ()))]
        batch.append(song[: length + 1])
    return torch.tensor(batch)


class Singer(nn.Module):
    def __init__(self):
        super().__init__()
        self.syllable = nn.Embedding(n_syllables, width)
        self.place = nn.Parameter(0.1 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_syllables)

    def forward(self, song):
        t = song.shape[1]
        mask = torch.zeros(t, t)
        x = self.syllable(song) + self.place[:t]
        return self.head(self.norm(self.layers(x, mask=mask)))


model = Singer()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(150):
    song = songs(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(song[:, :-1]).flatten(0, 1).float(), song[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    song = songs(500)
    heard = range(4, length + 1, 4)
    losses = [F.cross_entropy(model(song[:, :t])[:, -1], song[:, t]) for t in heard]
    print(f"final_loss {sum(losses).item() / len(losses):.4f}")
