"""Guess the topic of short lists of tags that are padded to one length."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(54)

n_tags, n_topics, longest, padded = 200, 5, 8, 256
vectors = F.normalize(torch.randn(n_tags + 1, 48), dim=1)
taste = torch.softmax(1.5 * torch.randn(n_topics, n_tags), dim=1)


def lists(n):
    topic = torch.randint(0, n_topics, (n,))
    tags = torch.zeros(n, padded, dtype=torch.long)
    tags[:, :longest] = 1 + torch.multinomial(taste[topic], longest)
    count = torch.randint(3, longest + 1, (n, 1))
    return tags * (torch.arange(padded) < count), topic


class TopicNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(vectors)
        self.fc = nn.Linear(vectors.shape[1], hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, n_topics)

    def forward(self, tags):
        mask = (tags > 0).unsqueeze(2)
        total = (self.embed(tags) * mask).sum(1)
        mean = total / mask.sum(1)
        return self.out(F.relu(self.norm(self.fc(mean))))


x_test, y_test = lists(1000)
model = TopicNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

for step in range(200):
    x, y = lists(64)
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
