"""Learn to continue sentences of a small grammar, word by word."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(34)

n_words, length = 20, 13
# 0 begins a clause, 1-5 are nouns, 6-10 the verbs that agree with them, 11-18 objects, 19 ends it
objects = torch.randint(11, 19, (5, 2))


def sentences(n):
    clauses = []
    for _ in range(3):
        noun = torch.randint(0, 5, (n,))
        thing = objects[noun, torch.randint(0, 2, (n,))]
        clauses.append(torch.stack([torch.zeros_like(noun), noun + 1, noun + 6, thing], dim=1))
    words = torch.cat([*clauses, torch.full((n, 1), 19)], dim=1)
    swap = torch.rand(n, length) < 0.03
    return torch.where(swap, torch.randint(0, n_words, (n, length)), words)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x):
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class LanguageModel(nn.Module):
    def __init__(self, width=32, heads=4, depth=2):
        super().__init__()
        self.words = nn.Embedding(n_words, width)
        self.places = nn.Parameter(0.3 * torch.randn(length, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_words, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, words):
        x = self.words(words) + self.places[: words.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def language_loss(model, words):
    return F.cross_entropy(model(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten())


model = LanguageModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-7, betas=(0.9, 0.98), weight_decay=0.01)
for step in range(300):
    loss = language_loss(model, sentences(32))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {language_loss(model, sentences(1000)).item():.4f}")
