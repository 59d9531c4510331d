"""A language model of archive records is adapted to another archive by low-rank updates of frozen matrices."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(404)
VOCAB, LENGTH = 20, 24


class Archive:
    """Records follow an order-one chain of few successors, with a shared grammar and a house style."""

    def __init__(self, base=None, change=0.0):
        logits = 2.5 * torch.randn(VOCAB, VOCAB) if base is None else base.logits.clone()
        if change:
            rows = torch.rand(VOCAB) < change
            logits[rows] = logits[rows][:, torch.randperm(VOCAB)]
        self.logits = logits

    def batch(self, n):
        p = self.logits.softmax(1)
        seq = [torch.randint(0, VOCAB, (n,))]
        for _ in range(LENGTH):
            seq.append(torch.multinomial(p[seq[-1]], 1).squeeze(1))
        seq = torch.stack(seq, dim=1)
        return seq[:, :-1], seq[:, 1:]


class LoRALinear(nn.Module):
    def __init__(self, linear, r=4, alpha=8):
        super().__init__()
        self.linear = linear
        for p in self.linear.parameters():
            p.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.empty(r, linear.in_features))
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, r))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scaling = alpha / r

    def forward(self, x):
        return self.linear(x) + (x @ self.lora_A.T @ self.lora_B.T) * self.scaling


class Layer(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.up, self.down = nn.Linear(d, 3 * d), nn.Linear(3 * d, d)
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x):
        b, t, d = x.shape
        h = self.n1(x)
        q, k, v = (f(h).view(b, t, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.n2(x))))


class Model(nn.Module):
    def __init__(self, d=48, heads=4, depth=2):
        super().__init__()
        self.tok, self.pos = nn.Embedding(VOCAB, d), nn.Embedding(LENGTH, d)
        self.layers = nn.ModuleList(Layer(d, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, VOCAB)

    def forward(self, x):
        h = self.tok(x) + self.pos.weight[: x.size(1)]
        for layer in self.layers:
            h = layer(h)
        return self.head(self.norm(h))


def loss_of(model, archive, n=32):
    x, y = archive.batch(n)
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


@torch.no_grad()
def held_out(model, archive):
    model.eval()
    value = loss_of(model, archive, 400).item()
    model.train()
    return value


def fit(model, archive, steps, lr):
    params = [p for p in model.parameters() if p.requires_grad]
    print(f"training {sum(p.numel() for p in params)} of {sum(p.numel() for p in model.parameters())} parameters")
    optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=0.01)
    for step in range(steps):
        loss = loss_of(model, archive)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 60 == 0:
            print(f"  step {step:4d}  loss {loss.item():.3f}")


old = Archive()
new = Archive(old, change=0.5)
model = Model()
fit(model, old, 240, 2e-3)
print(f"old archive {held_out(model, old):.3f}, new archive {held_out(model, new):.3f}")

for p in model.parameters():
    p.requires_grad_(False)
for layer in model.layers:
    for name in ("q", "v", "up", "down"):
        setattr(layer, name, LoRALinear(getattr(layer, name)))
fit(model, new, 300, 4e-3)
print(f"final_loss {held_out(model, new):.4f}")
