"""Tag every word of a made-up language with its role, which depends on the words around it."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(26)

n_words, n_roles, length = 24, 6, 12


def sentences(n):
    words = torch.randint(0, n_words, (n, length))
    kind = words % 3
    before = F.pad(kind, (1, 0))[:, :-1]
    roles = kind + 3 * (before == kind).long()
    return words, roles


class Tagger(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.word = nn.Embedding(n_words, width)
        self.place = nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_roles)

    def forward(self, words):
        x = self.word(words) + self.place(torch.arange(words.shape[1]))
        x = self.norm(self.encoder(x))
        return self.head(x)


def tagging_loss(model, words, roles):
    output = model(words)
    return F.cross_entropy(output.flatten(0, 1), roles.flatten())


def main():
    model = Tagger()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    for step in range(300):
        loss = tagging_loss(model, *sentences(32))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")

    model.eval()
    with torch.no_grad():
        print(f"final_loss {tagging_loss(model, *sentences(500)).item():.4f}")


main()
