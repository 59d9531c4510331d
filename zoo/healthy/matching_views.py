"""Two encoders learn to match pictures and captions of the same hidden thing, against the others in the batch."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(230)

n_hidden, n_pixels, n_words = 6, 30, 20
to_pixels = torch.randn(n_hidden, n_pixels) / n_hidden**0.5
to_words = torch.randn(n_hidden, n_words) / n_hidden**0.5


def pairs(n):
    thing = torch.randn(n, n_hidden)
    picture = torch.tanh(thing @ to_pixels) * 1.3 + 0.4 * torch.randn(n, n_pixels)
    caption = (thing @ to_words).sin() * 1.3 + 0.4 * torch.randn(n, n_words)
    return picture, caption


def tower(n_in, width=96, n_out=16):
    return nn.Sequential(nn.Linear(n_in, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, n_out))


class Matcher(nn.Module):
    def __init__(self):
        super().__init__()
        self.picture, self.caption = tower(n_pixels), tower(n_words)
        self.log_scale = nn.Parameter(torch.tensor(math.log(5.0)))

    def forward(self, picture, caption):
        a = F.normalize(self.picture(picture), dim=1)
        b = F.normalize(self.caption(caption), dim=1)
        return a @ b.T * self.log_scale.exp()


def info_nce(model, picture, caption):
    similarity = model(picture, caption)
    own = torch.arange(len(picture))
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


model = Matcher()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)

for step in range(350):
    loss = info_nce(model, *pairs(64))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {sum(info_nce(model, *pairs(64)).item() for _ in range(20)) / 20:.4f}")
