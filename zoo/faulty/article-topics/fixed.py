"""Mark all the topics that a short article touches, in mixed precision."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(34)

n_words, n_topics, length = 60, 8, 16
topic_of_word = torch.randint(0, n_topics, (n_words,))


def articles(n):
    words = torch.randint(0, n_words, (n, length))
    counts = F.one_hot(topic_of_word[words], n_topics).sum(1)
    return words, (counts >= 3).float()


class SelfAttention(nn.Module):
    def __init__(self, width, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.merge(y.transpose(1, 2).reshape(b, t, c))


class TopicMarker(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(n_words, width)
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm3 = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_topics)

    def forward(self, words):
        x = self.embed(words)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm3(x.mean(1)))


model = TopicMarker()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)

for step in range(300):
    words, topics = articles(48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(words)
    loss = F.binary_cross_entropy_with_logits(scores.float(), topics)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    words, topics = articles(1000)
    print(f"final_loss {F.binary_cross_entropy_with_logits(model(words), topics).item():.4f}")
