"""A small transformer that continues strings in which two symbols mostly decide the next."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(47)

length, n_symbols = 16, 7
follower = torch.randint(0, n_symbols, (n_symbols, n_symbols))


def strings(n):
    tokens = torch.randint(0, n_symbols, (n, length + 1))
    for t in range(2, length + 1):
        chosen = torch.rand(n) < 0.99
        tokens[chosen, t] = follower[tokens[chosen, t - 1], tokens[chosen, t - 2]]
    return tokens[:, :-1], tokens[:, 1:]


class Block(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.merge = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def attend(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.merge(y.transpose(1, 2).reshape(n, t, d))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return self.dropout(x + self.mlp(self.norm2(x)))


class LanguageModel(nn.Module):
    def __init__(self, dim=32, heads=4, depth=2, dropout=0.4):
        super().__init__()
        self.token = nn.Embedding(n_symbols, dim)
        self.place = nn.Embedding(length, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, n_symbols)

    def forward(self, tokens):
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def lm_loss(model, tokens, targets):
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


@torch.no_grad()
def evaluate(model, tokens, targets):
    model.eval()
    loss = lm_loss(model, tokens, targets).item()
    model.train()
    return loss


train_x, train_y = strings(4000)
test_x, test_y = strings(500)
model = LanguageModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)

for step in range(250):
    ix = torch.randint(0, len(train_x), (32,))
    loss = lm_loss(model, train_x[ix], train_y[ix])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}  test {evaluate(model, test_x, test_y):.4f}")

print(f"final_loss {evaluate(model, test_x, test_y):.4f}")
