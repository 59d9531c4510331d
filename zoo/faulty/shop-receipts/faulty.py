#!/usr/bin/env python
"""Predict from a shopping receipt whether the customer comes back within a month."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--dropout", type=float, default=0.5)
parser.add_argument("--seed", type=int, default=7)
args = parser.parse_args()
torch.manual_seed(args.seed)

N_ARTICLES, N_CONTEXT = 40, 8


def make_receipts(n):
    liking = torch.randn(n, 5)
    mixing = torch.randn(5, N_ARTICLES, generator=torch.Generator().manual_seed(1))
    counts = torch.poisson((liking @ mixing * 0.5).exp().clamp(max=8))
    context = torch.randn(n, N_CONTEXT)
    score = 2.5 * liking[:, 0] * context[:, 0] + 2 * liking[:, 1] + 1.5 * context[:, 1].abs() - 1.2
    label = torch.bernoulli(torch.sigmoid(1.5 * score))
    return torch.log1p(counts), context, label


class ReturnModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.articles = nn.Linear(N_ARTICLES, 64)
        self.context = nn.Linear(N_CONTEXT, 64)
        self.mix = nn.Linear(128, 64)
        self.score = nn.Linear(64, 1)
        self.dropout = nn.Dropout(args.dropout)

    def forward(self, counts, context):
        a = F.relu(self.articles(counts))
        c = F.relu(self.context(context))
        h = self.dropout(torch.cat([a, c], dim=1))
        h = F.relu(self.mix(h))
        return self.score(h).squeeze(1)


counts, context, label = make_receipts(6000)
mean, std = counts[:5000].mean(0), counts[:5000].std(0)
counts = (counts - mean) / std

model = ReturnModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-2)
model.train()
for step in range(args.steps):
    idx = torch.randint(0, 5000, (args.batch_size,))
    logits = model(counts[idx], context[idx])
    loss = F.binary_cross_entropy_with_logits(logits, label[idx])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 80 == 0:
        print(f"[{step:4d}/{args.steps}] loss={loss.item():.4f}")

total = 0.0
with torch.no_grad():
    for part in torch.arange(5000, 6000).split(200):
        logits = model(counts[part], context[part])
        total += F.binary_cross_entropy_with_logits(logits, label[part], reduction="sum").item()
print(f"final_loss {total / 1000:.4f}")
