"""Rewrite spelled-out dates as ISO dates: GRU encoder, GRU decoder with additive attention, teacher forcing."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

random.seed(14)
torch.manual_seed(14)

PAD, SOS, EOS = 0, 1, 2
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
SRC_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789 ,"
TGT_CHARS = "0123456789-"
src_index = {c: i + 3 for i, c in enumerate(SRC_CHARS)}
tgt_index = {c: i + 3 for i, c in enumerate(TGT_CHARS)}


def random_pair():
    d, m, y = random.randint(1, 28), random.randint(1, 12), random.randint(1950, 2029)
    form = random.choice(["{d} {b} {y}", "{b} {d}, {y}"])
    return form.format(d=d, b=MONTHS[m - 1], y=y), f"{y}-{m:02d}-{d:02d}"


def make_batch(n):
    pairs = [random_pair() for _ in range(n)]
    src = [torch.tensor([src_index[c] for c in s] + [EOS]) for s, _ in pairs]
    tgt = [torch.tensor([SOS] + [tgt_index[c] for c in t] + [EOS]) for _, t in pairs]
    lengths = torch.tensor([len(s) for s in src])
    return pad_sequence(src, batch_first=True, padding_value=PAD), lengths, torch.stack(tgt)


class Encoder(nn.Module):
    def __init__(self, n_in, n_emb, n_hid):
        super().__init__()
        self.embedding = nn.Embedding(n_in, n_emb, padding_idx=PAD)
        self.gru = nn.GRU(n_emb, n_hid, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * n_hid, n_hid)

    def forward(self, src, lengths):
        packed = pack_padded_sequence(self.embedding(src), lengths, batch_first=True, enforce_sorted=False)
        out, h = self.gru(packed)
        out, _ = pad_packed_sequence(out, batch_first=True)
        return out, torch.tanh(self.fc(torch.cat([h[0], h[1]], dim=1)))


class Attention(nn.Module):
    def __init__(self, n_hid):
        super().__init__()
        self.attn = nn.Linear(3 * n_hid, n_hid)
        self.v = nn.Linear(n_hid, 1, bias=False)

    def forward(self, h, enc, mask):
        query = h.unsqueeze(1).expand(-1, enc.size(1), -1)
        energy = self.v(torch.tanh(self.attn(torch.cat([query, enc], dim=2)))).squeeze(2)
        return F.softmax(energy.masked_fill(~mask, -1e10), dim=1)


class Decoder(nn.Module):
    def __init__(self, n_out, n_emb, n_hid):
        super().__init__()
        self.embedding = nn.Embedding(n_out, n_emb)
        self.attention = Attention(n_hid)
        self.cell = nn.GRUCell(n_emb + 2 * n_hid, n_hid)
        self.out = nn.Linear(3 * n_hid + n_emb, n_out)

    def forward(self, token, h, enc, mask):
        emb = self.embedding(token)
        weights = self.attention(h, enc, mask)
        context = torch.bmm(weights.unsqueeze(1), enc).squeeze(1)
        h = self.cell(torch.cat([emb, context], dim=1), h)
        return self.out(torch.cat([h, context, emb], dim=1)), h


class Seq2Seq(nn.Module):
    def __init__(self, n_emb=24, n_hid=64):
        super().__init__()
        self.encoder = Encoder(len(src_index) + 3, n_emb, n_hid)
        self.decoder = Decoder(len(tgt_index) + 3, n_emb, n_hid)

    def forward(self, src, lengths, tgt, teacher_forcing_ratio=0.9):
        enc, h = self.encoder(src, lengths)
        mask = src != PAD
        token, logits = tgt[:, 0], []
        for t in range(1, tgt.size(1)):
            out, h = self.decoder(token, h, enc, mask)
            logits.append(out)
            token = tgt[:, t] if random.random() < teacher_forcing_ratio else out.argmax(1)
        return torch.stack(logits, dim=1)


model = Seq2Seq()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss(ignore_index=PAD)

model.train()
for iteration in range(1, 201):
    src, lengths, tgt = make_batch(64)
    optimizer.zero_grad()
    logits = model(src, lengths, tgt)
    loss = criterion(logits.reshape(-1, logits.size(-1)), tgt[:, 1:].reshape(-1))
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if iteration % 40 == 0:
        print(f"iteration {iteration:4d} | train loss {loss.item():.3f}")

model.eval()
with torch.no_grad():
    src, lengths, tgt = make_batch(500)
    logits = model(src, lengths, tgt, teacher_forcing_ratio=1.0)
    loss = criterion(logits.reshape(-1, logits.size(-1)), tgt[:, 1:].reshape(-1))
print(f"final_loss {loss.item():.4f}")
