"""A character-level language model over first names, written with raw tensors.

Run: python examples/naive_names.py [--steps 20000] [--data FILE] [--seed 2147483647]
"""

import argparse
import random
from pathlib import Path

import torch
import torch.nn.functional as F

here = Path(__file__).resolve().parent
parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20_000)
parser.add_argument("--data", type=Path, default=here.parent / "src/unstuck/lm/data/names.txt")
parser.add_argument("--seed", type=int, default=2147483647)
args = parser.parse_args()
if not args.data.is_file():
    parser.error(f"there is no file {args.data}; name one with a name a line: --data FILE (unstuck/lm/data/names.txt)")

context, n_embd, n_hidden, batch_size = 3, 10, 200, 32
words = sorted(set(args.data.read_text(encoding="utf-8").split()))
random.Random(42).shuffle(words)
stoi = {s: i + 1 for i, s in enumerate(sorted(set("".join(words))))}
stoi["."] = 0
itos = {i: s for s, i in stoi.items()}


def examples(some_words):
    X, Y = [], []
    for word in some_words:
        window = [0] * context
        for char in word + ".":
            X.append(window)
            Y.append(stoi[char])
            window = [*window[1:], stoi[char]]
    return torch.tensor(X), torch.tensor(Y)


Xtr, Ytr = examples(words[: int(0.8 * len(words))])
Xdev, Ydev = examples(words[int(0.8 * len(words)) : int(0.9 * len(words))])

g = torch.Generator().manual_seed(args.seed)
C = torch.randn((len(stoi), n_embd), generator=g)
W1 = torch.randn((context * n_embd, n_hidden), generator=g)
b1 = torch.randn(n_hidden, generator=g)
W2 = torch.randn((n_hidden, len(stoi)), generator=g)
b2 = torch.randn(len(stoi), generator=g)
parameters = [C, W1, b1, W2, b2]
for p in parameters:
    p.requires_grad = True


def forward(X):
    emb = C[X].view(-1, context * n_embd)
    h = torch.tanh(emb @ W1 + b1)
    return h @ W2 + b2


for step in range(args.steps):
    ix = torch.randint(0, len(Xtr), (batch_size,), generator=g)
    logits = forward(Xtr[ix])
    loss = F.cross_entropy(logits, Ytr[ix])

    for p in parameters:
        p.grad = None
    loss.backward()

    lr = 0.1 if step < args.steps // 2 else 0.01
    for p in parameters:
        p.data += -lr * p.grad

    if step % max(1, args.steps // 10) == 0:
        print(f"{step:7d}/{args.steps}: {loss.item():.6f}")

with torch.no_grad():
    print(f"train loss {F.cross_entropy(forward(Xtr), Ytr).item():.6f}")
    print(f"val loss {F.cross_entropy(forward(Xdev), Ydev).item():.6f}")

for _ in range(10):
    window, out = [0] * context, []
    while len(out) < 30:
        probs = F.softmax(forward(torch.tensor([window])), dim=1)
        nxt = torch.multinomial(probs, 1, generator=g).item()
        if nxt == 0:
            break
        window = [*window[1:], nxt]
        out.append(itos[nxt])
    print("".join(out))
