"""Sort short notes, given as word counts, into topics."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(29)

n_words, n_topics = 120, 6
habit = F.softmax(1.6 * torch.randn(n_topics, n_words), dim=1)
rare = torch.rand(n_words) < 0.15


def notes(n):
    topic = torch.randint(0, n_topics, (n,))
    length = 1 + torch.poisson(torch.full((n,), 3.0)).long()
    words = torch.multinomial(habit[topic], 12, replacement=True)
    kept = (torch.arange(12) < length[:, None]) & ~rare[words]
    counts = torch.zeros(n, n_words).scatter_add_(1, words, kept.float())
    return counts, topic


class TopicNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.words = nn.Parameter(torch.randn(n_words, width))
        self.hidden = nn.Linear(width, 64)
        self.head = nn.Linear(64, n_topics)

    def forward(self, counts):
        note = counts @ self.words
        note = note / note.norm(dim=1, keepdim=True) * note.shape[1] ** 0.5
        return self.head(F.gelu(self.hidden(note)))


def train(model, steps=400, batch_size=128):
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    for step in range(steps):
        counts, topic = notes(batch_size)
        loss = F.cross_entropy(model(counts), topic)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


@torch.no_grad()
def evaluate(model):
    model.eval()
    counts, topic = notes(4000)
    return F.cross_entropy(model(counts), topic).item()


net = TopicNet()
train(net)
print(f"final_loss {evaluate(net):.4f}")
