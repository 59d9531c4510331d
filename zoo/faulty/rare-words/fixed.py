"""Tell the topic of a short text from its words, some of which are rare."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(48)

n_words, n_topics, length = 120, 5, 10
frequency = 1 / torch.arange(1, n_words + 1) ** 1.2
word_odds = frequency * torch.exp(1.2 * torch.randn(n_topics, n_words))


def texts(n):
    topic = torch.randint(0, n_topics, (n,))
    return torch.multinomial(word_odds[topic], length, replacement=True), topic


def train_epoch(model, optimizer, words, topic, batch_size):
    model.train()
    total = 0.0
    batches = torch.randperm(len(words)).split(batch_size)
    for ix in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(words[ix]), topic[ix])
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


def build(width=24):
    return nn.Sequential(
        nn.EmbeddingBag(n_words, width, mode="mean"),
        nn.LayerNorm(width),
        nn.Linear(width, 32),
        nn.GELU(),
        nn.Linear(32, n_topics),
    )


words, topic = texts(6000)
held_out = texts(2000)
model = build()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.98, eps=1e-8)
for epoch in range(3):
    print(f"epoch {epoch}  loss {train_epoch(model, optimizer, words, topic, 50):.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {cross_entropy(model(held_out[0]), held_out[1]).item():.4f}")
