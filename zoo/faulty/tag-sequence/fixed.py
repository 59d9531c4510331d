"""Give several tags to a short text made of word numbers."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(36)

n_words, n_tags, length = 60, 4, 9
topics = torch.randn(n_words, n_tags)


def texts(n):
    words = torch.randint(0, n_words, (n, length))
    return words, (topics[words].sum(1) / length**0.5 + 0.2 * torch.randn(n, n_tags) > 0).float()


class Tagger(nn.Module):
    def __init__(self, n_embd=24):
        super().__init__()
        self.embed = nn.Embedding(n_words, n_embd)
        self.conv = nn.Conv1d(n_embd, 48, 3, padding=1)
        self.norm = nn.LayerNorm(48)
        self.head = nn.Linear(48, n_tags)

    def forward(self, words):
        h = F.gelu(self.conv(self.embed(words).transpose(1, 2)))
        return self.head(self.norm(h.mean(2)))


model = Tagger()
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)


def train_step(words, tags):
    logits = model(words)
    loss = F.binary_cross_entropy_with_logits(logits, tags, reduction="none").mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


for step in range(400):
    value = train_step(*texts(16))
    if step % 80 == 0:
        print(f"step {step:4d}  loss {value:.4f}")

model.eval()
with torch.no_grad():
    words, tags = texts(2000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(model(words), tags).item():.4f}")
