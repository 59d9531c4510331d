"""Find the value that belongs to the queried key in a shuffled list, by attention."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(56)

n_keys, n_values, n_pairs = 8, 6, 6


def queries(n):
    keys = torch.rand(n, n_keys).argsort(1)[:, :n_pairs]
    values = torch.randint(0, n_values, (n, n_pairs))
    asked = torch.randint(0, n_pairs, (n, 1))
    return keys, values, keys.gather(1, asked), values.gather(1, asked).squeeze(1)


class Lookup(nn.Module):
    def __init__(self, dim=32, heads=2, dropout=0.1):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.key_embed = nn.Embedding(n_keys, dim)
        self.value_embed = nn.Embedding(n_values, dim)
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, n_values)

    def split(self, x):
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, keys, values, query):
        keys = self.key_embed(keys)
        q, k, v = self.q(self.key_embed(query)), self.k(keys), self.v(keys + self.value_embed(values))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(self.split(q), self.split(k), self.split(v), dropout_p=dropout)
        return self.head(self.norm(y.transpose(1, 2).flatten(1)))


def train(model, steps, batch_size=64):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    model.train()
    for step in range(steps):
        *inputs, target = queries(batch_size)
        loss = F.cross_entropy(model(*inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")


@torch.no_grad()
def test(model):
    model.eval()
    *inputs, target = queries(2000)
    return F.cross_entropy(model(*inputs), target).item()


lookup = Lookup()
train(lookup, steps=500)
print(f"final_loss {test(lookup):.4f}")
