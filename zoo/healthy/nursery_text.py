"""A causal language model of toy sentences whose output layer is the token table itself."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(218)

words = "<s> the a big small red cat dog bird fish sees chases likes and sleeps .".split()
code = {w: i for i, w in enumerate(words)}
length = 12


def noun_phrase():
    parts = [("the", "a")[int(torch.randint(0, 2, ()))]]
    if torch.rand(()) < 0.4:
        parts.append(("big", "small", "red")[int(torch.randint(0, 3, ()))])
    return [*parts, ("cat", "dog", "bird", "fish")[int(torch.randint(0, 4, ()))]]


def sentence():
    text = ["<s>", *noun_phrase()]
    if torch.rand(()) < 0.25:
        text += ["and", *noun_phrase(), "sleeps"]
    else:
        text += [("sees", "chases", "likes")[int(torch.randint(0, 3, ()))], *noun_phrase()]
    text += ["."] * (length + 1 - len(text))
    return [code[w] for w in text]


class Block(nn.Module):
    def __init__(self, n_embd, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.proj = nn.Linear(n_embd, n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x):
        B, T, C = x.shape
        heads = self.qkv(self.norm1(x)).view(B, T, 3, self.n_heads, C // self.n_heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.norm2(x))


class LanguageModel(nn.Module):
    def __init__(self, n_embd=32, n_heads=4, depth=2):
        super().__init__()
        self.tokens = nn.Embedding(len(words), n_embd)
        self.places = nn.Parameter(0.02 * torch.randn(length, n_embd))
        self.blocks = nn.Sequential(*[Block(n_embd, n_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, len(words), bias=False)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.05)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.tokens(ids) + self.places)))


text = torch.tensor([sentence() for _ in range(1500)])
train, test = text[:1200], text[1200:]
model = LanguageModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)


def loss_of(rows):
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


for step in range(250):
    loss = loss_of(train[torch.randint(0, len(train), (24,))])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(test).item():.4f}")
