"""A reader asks for a title; the shelf holds several books, each with a shelf mark to be read out."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(11)

N_TITLES, N_MARKS, SHELF = 30, 8, 10


def shelves(n):
    titles = torch.stack([torch.randperm(N_TITLES)[:SHELF] for _ in range(n)])
    marks = torch.randint(N_MARKS, (n, SHELF))
    wanted = torch.randint(SHELF, (n,))
    rows = torch.arange(n)
    misread = torch.rand(n) < 0.1
    answer = torch.where(misread, torch.randint(N_MARKS, (n,)), marks[rows, wanted])
    return titles, marks, titles[rows, wanted], answer


class Lookup(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.title = nn.Embedding(N_TITLES, dim)
        self.mark = nn.Embedding(N_MARKS, dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Sequential(nn.Linear(dim, 64), nn.GELU(), nn.Linear(64, N_MARKS))

    def forward(self, titles, marks, question):
        shelf = self.title(titles)
        q = self.query(self.title(question)).unsqueeze(1)
        k = self.key(shelf)
        v = self.value(shelf + self.mark(marks))
        scores = (q @ k.transpose(1, 2)).squeeze(1) / math.sqrt(k.shape[-1])
        weights = F.softmax(scores, dim=0)
        return self.out((weights.unsqueeze(2) * v).sum(1))


model = Lookup()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(350):
    titles, marks, question, answer = shelves(64)
    loss = F.cross_entropy(model(titles, marks, question), answer)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 70 == 0:
        print(f"{step:4d} {loss.item():.4f}")

model.eval()
with torch.no_grad():
    titles, marks, question, answer = shelves(1500)
    print(f"final_loss {F.cross_entropy(model(titles, marks, question), answer).item():.4f}")
