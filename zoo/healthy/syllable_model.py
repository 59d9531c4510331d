"""A small model of made-up words, its learning rate raised from zero over the first steps and then lowered."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(207)

consonants, vowels = "bdgklmnprst", "aeiou"
symbols = "." + consonants + vowels
code = {s: i for i, s in enumerate(symbols)}
context = 4


def word():
    syllables = int(torch.randint(2, 4, ()))
    letters = ""
    for _ in range(syllables):
        c = consonants[int(torch.randint(0, len(consonants), ()))]
        letters += c + vowels[(consonants.index(c) + int(torch.randint(0, 2, ()))) % len(vowels)]
    return letters


def examples(n_words):
    xs, ys = [], []
    for _ in range(n_words):
        window = [0] * context
        for letter in word() + ".":
            xs.append(window)
            ys.append(code[letter])
            window = [*window[1:], code[letter]]
    return torch.tensor(xs), torch.tensor(ys)


class Model(nn.Module):
    def __init__(self, n_embd=12, width=96):
        super().__init__()
        self.table = nn.Embedding(len(symbols), n_embd)
        self.hidden = nn.Linear(context * n_embd, width)
        self.out = nn.Linear(width, len(symbols))

    def forward(self, window):
        h = torch.tanh(self.hidden(self.table(window).flatten(1)))
        return self.out(h)


x_train, y_train = examples(1500)
x_test, y_test = examples(300)
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.9, 0.98))
n_steps, warmup = 400, 60
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: step / warmup if step < warmup else 1 - (step - warmup) / (n_steps - warmup + 1)
)

for step in range(n_steps):
    ix = torch.randint(0, len(x_train), (96,))
    loss = F.cross_entropy(model(x_train[ix]), y_train[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 80 == 0:
        print(f"step {step:4d}  lr {scheduler.get_last_lr()[0]:.5f}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(model(x_test), y_test).item():.4f}")
