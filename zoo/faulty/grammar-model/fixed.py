"""Train a two-block transformer to continue strings of an artificial grammar."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(405)

n_tokens, context, n_embd, n_heads, n_blocks = 24, 16, 48, 3, 2
last_vote = 3 * torch.randn(n_tokens, n_tokens)
second_last_vote = 2 * torch.randn(n_tokens, n_tokens)


def strings(n):
    ids = torch.randint(0, n_tokens, (n, 2))
    for _ in range(context - 1):
        scores = last_vote[ids[:, -1]] + second_last_vote[ids[:, -2]]
        ids = torch.cat([ids, torch.multinomial(F.softmax(scores, dim=1), 1)], dim=1)
    return ids


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.project = nn.Linear(n_embd, n_embd)
        self.up, self.down = nn.Linear(n_embd, 4 * n_embd), nn.Linear(4 * n_embd, n_embd)
        for layer in (self.project, self.down):
            nn.init.normal_(layer.weight, std=(2 * n_blocks * layer.in_features) ** -0.5)

    def forward(self, x):
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(n_tokens, n_embd)
        self.positions = nn.Parameter(0.02 * torch.randn(context, n_embd))
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.norm_in = nn.LayerNorm(n_embd)
        self.blocks = nn.Sequential(*(Block() for _ in range(n_blocks)))
        self.norm_out = nn.LayerNorm(n_embd)

    def forward(self, ids):
        x = self.norm_in(self.tokens(ids) + self.positions)
        x = self.norm_out(self.blocks(x))
        return F.linear(x, self.tokens.weight)


train, test = strings(6000), strings(500)
model = LanguageModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

for step in range(200):
    batch = train[torch.randint(0, len(train), (32,))]
    logits = model(batch[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    logits = model(test[:, :-1])
    print(f"final_loss {F.cross_entropy(logits.flatten(0, 1), test[:, 1:].flatten()).item():.4f}")
