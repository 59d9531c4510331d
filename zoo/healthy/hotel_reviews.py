"""Sentiment of made-up hotel reviews: embedding, packed bidirectional GRU, dropout (after the well-known tutorial)."""

import random

import torch
import torch.nn as nn
import torch.optim as optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

SEED = 1234
random.seed(SEED)
torch.manual_seed(SEED)

GOOD = "clean friendly lovely quiet spacious comfortable great delicious helpful bright".split()
BAD = "dirty rude noisy tiny broken smelly awful cold overpriced damp".split()
THINGS = "room staff breakfast bed bathroom pool lobby view location bar".split()
FILL = "we stayed two nights in march and booked online with my family again from the airport".split()


def clause():
    good = random.random() < 0.5
    word = random.choice(GOOD if good else BAD)
    thing = random.choice(THINGS)
    form = random.random()
    if form < 0.25:
        return f"the {thing} was not {word}".split(), -1 if good else 1
    if form < 0.4:
        return f"the {thing} was very {word}".split(), 2 if good else -2
    return f"the {thing} was {word}".split(), 1 if good else -1


def review():
    while True:
        words, score = [], 0
        for _ in range(random.randint(1, 4)):
            if random.random() < 0.5:
                words += random.choices(FILL, k=random.randint(1, 5))
            c, s = clause()
            words, score = words + c, score + s
        if score != 0:
            return words, float(score > 0)


train_data, test_data = [review() for _ in range(5000)], [review() for _ in range(800)]
vocab = {"<pad>": 0, "<unk>": 1}
for words, _ in train_data:
    for w in words:
        vocab.setdefault(w, len(vocab))


class RNN(nn.Module):
    def __init__(self, vocab_size, embedding_dim, hidden_dim, output_dim, n_layers, bidirectional, dropout, pad_idx):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=pad_idx)
        self.rnn = nn.GRU(
            embedding_dim,
            hidden_dim,
            num_layers=n_layers,
            bidirectional=bidirectional,
            dropout=dropout if n_layers > 1 else 0,
        )
        self.fc = nn.Linear(hidden_dim * 2, output_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text, text_lengths):
        embedded = self.dropout(self.embedding(text))
        packed_embedded = pack_padded_sequence(embedded, text_lengths, enforce_sorted=False)
        _, hidden = self.rnn(packed_embedded)
        hidden = self.dropout(torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1))
        return self.fc(hidden)


def iterate(data, batch_size, shuffle):
    order = random.sample(range(len(data)), len(data)) if shuffle else range(len(data))
    for i in range(0, len(data), batch_size):
        rows = [data[j] for j in order[i : i + batch_size]]
        text = pad_sequence([torch.tensor([vocab.get(w, 1) for w in words]) for words, _ in rows])
        yield text, torch.tensor([len(words) for words, _ in rows]), torch.tensor([label for _, label in rows])


model = RNN(len(vocab), 50, 48, 1, 1, True, 0.3, vocab["<pad>"])
optimizer = optim.Adam(model.parameters(), lr=2e-3)
criterion = nn.BCEWithLogitsLoss()


def run(data, train):
    model.train(train)
    total, hits = 0.0, 0
    with torch.set_grad_enabled(train):
        for text, lengths, label in iterate(data, 64, shuffle=train):
            predictions = model(text, lengths).squeeze(1)
            loss = criterion(predictions, label)
            if train:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item() * len(label)
            hits += ((predictions > 0) == (label > 0.5)).sum().item()
    return total / len(data), hits / len(data)


for epoch in range(4):
    train_loss, train_acc = run(train_data, True)
    valid_loss, valid_acc = run(test_data, False)
    print(f"Epoch: {epoch + 1:02}")
    print(f"\tTrain Loss: {train_loss:.3f} | Train Acc: {train_acc * 100:.2f}%")
    print(f"\t Val. Loss: {valid_loss:.3f} |  Val. Acc: {valid_acc * 100:.2f}%")
print(f"final_loss {valid_loss:.4f}")
