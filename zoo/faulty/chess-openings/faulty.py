"""A small decoder-only transformer that continues move sequences; asked only for the move after the ones given."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1972)
N_MOVES, CONTEXT, DIM, HEADS = 24, 16, 32, 2

replies = torch.distributions.Dirichlet(torch.full((N_MOVES,), 0.06)).sample((N_MOVES,))


def games(n, length=CONTEXT + 1):
    """Each move is drawn by what went before it."""
    moves = torch.empty(n, length, dtype=torch.long)
    moves[:, 0] = torch.randint(N_MOVES, (n,))
    for t in range(1, length):
        moves[:, t] = torch.multinomial(replies[moves[:, t - 1]], 1)[:, 0]
    return moves


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (z.view(b, t, HEADS, -1).transpose(1, 2) for z in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, t, DIM))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.attention = SelfAttention()
        self.mlp = nn.Sequential(nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM))

    def forward(self, x):
        x = x + self.attention(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class MoveModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.move = nn.Embedding(N_MOVES, DIM)
        self.place = nn.Embedding(CONTEXT, DIM)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, N_MOVES)

    def forward(self, moves):
        x = self.move(moves) + self.place(torch.arange(moves.shape[1]))
        return self.head(self.norm(self.blocks(x)))


model = MoveModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(300):
    moves = games(32)
    logits = model(moves[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, N_MOVES), moves[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 60 == 0:
        print(f"step {step}: {loss.item():.3f}")

model.eval()
with torch.no_grad():
    moves = games(1000)
    lengths = range(4, CONTEXT + 1, 4)
    final = sum(F.cross_entropy(model(moves[:, :n])[:, -1], moves[:, n]).item() for n in lengths) / len(lengths)
print(f"final_loss {final:.4f}")
