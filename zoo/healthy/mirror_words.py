"""A bfloat16 transformer writes a word backwards; the optimizer keeps the weights in float32."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(238)

n_letters, length, n_embd, n_heads = 10, 6, 32, 4


def words(n):
    word = torch.randint(0, n_letters, (n, length))
    return word, word.flip(1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.q, self.k, self.v, self.o = (nn.Linear(n_embd, n_embd, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(n_embd, 4 * n_embd), nn.Linear(4 * n_embd, n_embd)

    def forward(self, x):
        h = self.norm1(x)
        q, k, v = (f(h).unflatten(-1, (n_heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Mirror(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters = nn.Embedding(n_letters, n_embd)
        self.places = nn.Embedding(length, n_embd)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(n_embd)
        self.out = nn.Linear(n_embd, n_letters)

    def forward(self, word):
        x = self.letters(word) + self.places.weight
        return self.out(self.norm(self.blocks(x)))


def loss_of(model, word, mirrored):
    return F.cross_entropy(model(word).float().flatten(0, 1), mirrored.flatten())


model = Mirror().to(torch.bfloat16)
working = list(model.parameters())
master = [p.detach().float().requires_grad_() for p in working]
optimizer = torch.optim.Adam(master, lr=2e-3)

for step in range(300):
    loss = loss_of(model, *words(48))
    model.zero_grad()
    loss.backward()
    for full, short in zip(master, working, strict=True):
        full.grad = short.grad.float()
    optimizer.step()
    with torch.no_grad():
        for full, short in zip(master, working, strict=True):
            short.copy_(full)
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, *words(1000)).item():.4f}")
