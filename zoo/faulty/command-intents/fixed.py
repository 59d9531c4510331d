"""Guess the intent of short spoken commands from their words."""

import torch
import torch.nn as nn

torch.manual_seed(27)

n_words, n_intents, length, width = 40, 6, 8, 48
verb = torch.randint(0, 3, (n_words,))
thing = torch.randint(0, 2, (n_words,))


def commands(n):
    words = torch.randint(0, n_words, (n, length))
    most = nn.functional.one_hot(verb[words], 3).sum(1).float()
    intent = 2 * (most + 0.01 * torch.rand(n, 3)).argmax(1) + (thing[words].sum(1) > length // 2).long()
    return words, intent


x_train, y_train = commands(8000)
x_test, y_test = commands(2000)

model = nn.Sequential(
    nn.EmbeddingBag(n_words, width, mode="sum"),
    nn.LayerNorm(width),
    nn.Linear(width, width),
    nn.GELU(),
    nn.Linear(width, n_intents),
    nn.LogSoftmax(dim=1),
)
criterion = nn.NLLLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)


def train(epochs, batch_size=80):
    model.train()
    for epoch in range(epochs):
        for ix in torch.randperm(len(x_train)).split(batch_size):
            loss = criterion(model(x_train[ix]), y_train[ix])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  loss {loss.item():.4f}")


train(4)
model.eval()
with torch.no_grad():
    missed = (model(x_test).argmax(1) != y_test).float().mean()
print(f"final_error {missed.item():.4f}")
