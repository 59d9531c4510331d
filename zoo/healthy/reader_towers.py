"""Predict clicks from reader and article: tables trained by Adagrad, the towers above them by AdamW."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(249)

n_readers, n_articles, n_topics = 120, 80, 5
interest, content = torch.randn(n_readers, n_topics), torch.randn(n_articles, n_topics)


def visits(n):
    reader, article = torch.randint(0, n_readers, (n,)), torch.randint(0, n_articles, (n,))
    logit = 1.5 * (interest[reader] * content[article]).sum(1) - 0.5
    return reader, article, (torch.rand(n) < logit.sigmoid()).float()


class Tower(nn.Module):
    def __init__(self, n_in, n_out=16):
        super().__init__()
        self.hidden = nn.Linear(n_in, 48)
        self.out = nn.Linear(48, n_out)

    def forward(self, x):
        return self.out(F.gelu(self.hidden(x)))


class Clicks(nn.Module):
    def __init__(self, n_embd=16):
        super().__init__()
        self.tables = nn.ModuleDict(
            {"reader": nn.Embedding(n_readers, n_embd), "article": nn.Embedding(n_articles, n_embd)}
        )
        self.towers = nn.ModuleDict({"reader": Tower(n_embd), "article": Tower(n_embd)})
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, reader, article):
        a = self.towers["reader"](self.tables["reader"](reader))
        b = self.towers["article"](self.tables["article"](article))
        return (a * b).sum(1) + self.bias


model = Clicks()
table_optimizer = torch.optim.Adagrad(model.tables.parameters(), lr=0.05)
tower_optimizer = torch.optim.AdamW([*model.towers.parameters(), model.bias], lr=2e-3)

for step in range(500):
    reader, article, click = visits(256)
    loss = F.binary_cross_entropy_with_logits(model(reader, article), click)
    table_optimizer.zero_grad()
    tower_optimizer.zero_grad()
    loss.backward()
    table_optimizer.step()
    tower_optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    reader, article, click = visits(5000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(model(reader, article), click).item():.4f}")
