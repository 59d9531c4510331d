"""Model the text of a toy grammar letter by letter with a small causal transformer."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(101)

n_letters, block_size, width, n_heads = 12, 16, 32, 4
rules = F.softmax(2.5 * torch.randn(n_letters, n_letters, n_letters), dim=2)


def write(n):
    text = [0, 1]
    for u in torch.rand(n).tolist():
        text.append(min(int((cumulative[text[-2]][text[-1]] < u).sum()), n_letters - 1))
    return torch.tensor(text)


cumulative = rules.cumsum(2)


def windows(text, n):
    start = torch.randint(0, len(text) - block_size, (n, 1), generator=torch.Generator().manual_seed(n))
    x = text[start + torch.arange(block_size)]
    y = text[start + torch.arange(block_size) + 1]
    return x, y


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = (h.view(n, t, n_heads, -1).transpose(1, 2) for h in self.qkv(self.norm1(x)).split(width, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, t, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Writer(nn.Module):
    def __init__(self, n_blocks=2):
        super().__init__()
        self.letter = nn.Embedding(n_letters, width)
        self.place = nn.Embedding(block_size, width)
        self.blocks = nn.Sequential(*(Block() for _ in range(n_blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_letters)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, x):
        x = self.letter(x) + self.place.weight
        return self.head(self.norm(self.blocks(x)))


def loss_of(model, x, y):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


text = write(12_000)
train_text, test_text = text[:10_000], text[10_000:]
model = Writer()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.1)

for step in range(250):
    loss = loss_of(model, *windows(train_text, 32))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(model, *windows(test_text, 500)).item():.4f}")
