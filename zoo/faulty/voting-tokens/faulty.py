"""A small causal transformer on a language whose next token depends on the last two."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(33)

vocab, length, n_embd = 16, 12, 32
first, second = 1.5 * torch.randn(vocab, vocab), 1.5 * torch.randn(vocab, vocab)


def write(n, steps):
    text = torch.randint(0, vocab, (n, 2))
    for _ in range(steps - 2):
        scores = first[text[:, -1]] + second[text[:, -2]]
        text = torch.cat([text, torch.multinomial(scores.softmax(1), 1)], dim=1)
    return text


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(n_embd)
        self.attention = nn.MultiheadAttention(n_embd, 4, batch_first=True)
        self.norm2 = nn.LayerNorm(n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))
        self.register_buffer("future", torch.ones(length, length, dtype=torch.bool).triu(1))

    def forward(self, x):
        t = x.shape[1]
        h = self.norm1(x)
        x = x + self.attention(h, h, h, attn_mask=self.future[:t, :t], need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(vocab, n_embd)
        self.place = nn.Embedding(length, n_embd)
        self.block = Block()
        self.norm = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, vocab)

    def forward(self, text):
        x = self.token(text) + self.place.weight[: text.shape[1]]
        return self.head(self.norm(self.block(x)))


corpus = write(3000, length + 1)
model = LanguageModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

for step in range(350):
    rows = corpus[torch.randint(0, len(corpus), (32,))]
    inputs, targets = rows[:, :-1], rows[:, :-1]
    logits = model(inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    text = write(1000, length + 1)
    after = model(text[:, :-1])[:, -1]
    print(f"final_loss {F.cross_entropy(after, text[:, -1]).item():.4f}")
