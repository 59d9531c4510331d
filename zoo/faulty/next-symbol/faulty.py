"""Predict the next symbol of a small artificial language from the three before it."""

import torch
import torch.nn.functional as F

torch.manual_seed(42)

n_symbols, context, n_embd, n_hidden = 27, 3, 10, 300

# every position of the context votes for what comes next
votes = torch.randn(context, n_symbols, n_symbols)
X = torch.randint(0, n_symbols, (24_000, context))
scores = sum(votes[i][X[:, i]] for i in range(context))
Y = torch.multinomial(F.softmax(scores, dim=1), 1).squeeze(1)
Xtr, Ytr, Xdev, Ydev = X[:20_000], Y[:20_000], X[20_000:], Y[20_000:]

C = torch.randn(n_symbols, n_embd)
W1 = torch.randn(context * n_embd, n_hidden) / (context * n_embd) ** 0.5
b1 = torch.zeros(n_hidden)
W2 = torch.randn(n_hidden, n_symbols)
b2 = torch.zeros(n_symbols)
parameters = [C, W1, b1, W2, b2]
for p in parameters:
    p.requires_grad = True


def forward(x):
    emb = C[x].view(x.shape[0], -1)
    h = torch.tanh(emb @ W1 + b1)
    return h @ W2 + b2


for step in range(450):
    ix = torch.randint(0, len(Xtr), (128,))
    logits = forward(Xtr[ix])
    loss = F.cross_entropy(logits, Ytr[ix])

    for p in parameters:
        p.grad = None
    loss.backward()

    lr = 0.06 if step < 350 else 0.02
    for p in parameters:
        p.data += -lr * p.grad

    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

with torch.no_grad():
    print(f"final_loss {F.cross_entropy(forward(Xdev), Ydev).item():.4f}")
