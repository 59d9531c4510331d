"""Sort short reviews into liked and disliked by the words in them."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(71)

n_words, length = 200, 12
tone = torch.randn(n_words)


def reviews(n):
    words = torch.randint(0, n_words, (n, length))
    opinion = torch.sigmoid(tone[words].sum(1) + 0.5 * torch.randn(n))
    return words, opinion


class Classifier(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.bag = nn.EmbeddingBag(n_words, width, mode="mean")
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, 2)

    def forward(self, words):
        return self.out(F.relu(self.hidden(self.norm(self.bag(words)))))


texts, opinion = reviews(6000)
labels = opinion.long()
model = Classifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

for step in range(400):
    ix = torch.randint(0, len(texts), (64,))
    words, label = texts[ix], labels[ix]
    loss = F.cross_entropy(model(words), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    words, opinion = reviews(2000)
    print(f"final_loss {F.cross_entropy(model(words), (opinion > 0.5).long()).item():.4f}")
