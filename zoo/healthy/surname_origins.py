"""Guess the origin of a surname letter by letter, four names at a time."""

import random
import string
import time

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_sequence

random.seed(17)
torch.manual_seed(17)

all_letters = string.ascii_lowercase + "'"
n_letters = len(all_letters)
syllables = {
    "northern": (["sven", "lars", "bjor", "hal", "erik", "nil", "and"], ["son", "sen", "gaard", "berg", "dahl"]),
    "southern": (["ros", "bian", "ferr", "mar", "gal", "cost", "ricc"], ["ini", "etti", "ano", "ello", "aro"]),
    "eastern": (["petr", "novak", "kowal", "ivan", "sokol", "jan", "wis"], ["ov", "ski", "enko", "ic", "ek"]),
    "western": (["mac", "o'", "fitz", "ken", "don", "bren", "cal"], ["nell", "gan", "ley", "ry", "nan"]),
}
all_categories = list(syllables)


def random_name():
    category = random.choice(all_categories)
    starts, ends = syllables[category]
    middle = random.choice(["", "", "a", "e", "el", "or"])
    name = random.choice(starts) + middle + random.choice(ends)
    if random.random() < 0.15:
        i = random.randrange(len(name))
        name = name[:i] + random.choice(string.ascii_lowercase) + name[i + 1 :]
    return name, category


def letter_to_index(letter):
    return all_letters.find(letter)


def line_to_tensor(line):
    tensor = torch.zeros(len(line), n_letters)
    for li, letter in enumerate(line):
        tensor[li][letter_to_index(letter)] = 1
    return tensor


class CharLSTM(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.rnn = nn.LSTM(input_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, packed):
        _, (hidden, _) = self.rnn(packed)
        output = self.h2o(hidden[0])
        return self.softmax(output)


def batch(n):
    names, categories = zip(*(random_name() for _ in range(n)), strict=True)
    packed = pack_sequence([line_to_tensor(name) for name in names], enforce_sorted=False)
    return packed, torch.tensor([all_categories.index(c) for c in categories])


rnn = CharLSTM(n_letters, 64, len(all_categories))
criterion = nn.NLLLoss()
optimizer = torch.optim.Adam(rnn.parameters(), lr=2e-3)

start = time.time()
current_loss, all_losses, plot_every = 0, [], 60
for iter in range(1, 601):
    names, category = batch(4)
    rnn.zero_grad()
    loss = criterion(rnn(names), category)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(rnn.parameters(), 3)
    optimizer.step()
    current_loss += loss.item()
    if iter % plot_every == 0:
        all_losses.append(current_loss / plot_every)
        print(f"{iter} ({time.time() - start:.0f}s) {all_losses[-1]:.4f}")
        current_loss = 0

rnn.eval()
with torch.no_grad():
    names, category = batch(1000)
    print(f"final_loss {criterion(rnn(names), category).item():.4f}")
