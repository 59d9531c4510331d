"""Encoder-decoder transformer: '0735' -> 'twenty five to eight'.  Follows the seq2seq tutorial with nn.Transformer."""

import math
import random

import torch
import torch.nn as nn

random.seed(0)
torch.manual_seed(0)

WORDS = "one two three four five six seven eight nine ten eleven twelve".split()
MINUTES = {5: "five", 10: "ten", 15: "quarter", 20: "twenty", 25: "twenty five"}


def phrase(h, m):
    m = 5 * (m // 5)
    name = WORDS[(h - 1) % 12]
    after = WORDS[h % 12]
    day = "at night" if h < 6 or h >= 22 else "in the morning" if h < 12 else "in the afternoon"
    if m == 0:
        text = f"{name} o'clock"
    elif m == 30:
        text = f"half past {name}"
    elif m < 30:
        text = f"{MINUTES[m]} past {name}"
    else:
        text = f"{MINUTES[60 - m]} to {after}"
    return f"{text} {day}".split()


PAD, BOS, EOS = 0, 1, 2
itos = ["<pad>", "<bos>", "<eos>", *sorted({w for h in range(24) for m in range(60) for w in phrase(h, m)})]
stoi = {w: i for i, w in enumerate(itos)}

times = [(h, m) for h in range(24) for m in range(60)]
random.shuffle(times)
train_times, valid_times = times[:1150], times[1150:]


def collate(pairs):
    src = torch.tensor([[int(c) + 1 for c in f"{h:02d}{m:02d}"] for h, m in pairs])
    tgt = [torch.tensor([BOS] + [stoi[w] for w in phrase(h, m)] + [EOS]) for h, m in pairs]
    return src, nn.utils.rnn.pad_sequence(tgt, batch_first=True, padding_value=PAD)


class PositionalEncoding(nn.Module):
    def __init__(self, emb_size, dropout, maxlen=32):
        super().__init__()
        den = torch.exp(-torch.arange(0, emb_size, 2) * math.log(10000) / emb_size)
        pos = torch.arange(0, maxlen).reshape(maxlen, 1)
        table = torch.zeros((maxlen, emb_size))
        table[:, 0::2] = torch.sin(pos * den)
        table[:, 1::2] = torch.cos(pos * den)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("table", table)

    def forward(self, x):
        return self.dropout(x + self.table[: x.size(1)])


class Seq2SeqTransformer(nn.Module):
    def __init__(self, emb_size=64, nhead=4, layers=1, ff=128, dropout=0.1):
        super().__init__()
        self.emb_size = emb_size
        self.transformer = nn.Transformer(emb_size, nhead, layers, layers, ff, dropout, batch_first=True)
        self.generator = nn.Linear(emb_size, len(itos))
        self.src_tok_emb = nn.Embedding(11, emb_size)
        self.tgt_tok_emb = nn.Embedding(len(itos), emb_size)
        self.positional_encoding = PositionalEncoding(emb_size, dropout)
        for p in self.transformer.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, src, tgt):
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1))
        src_emb = self.positional_encoding(self.src_tok_emb(src))
        tgt_emb = self.positional_encoding(self.tgt_tok_emb(tgt))
        pad = torch.zeros(tgt.shape).masked_fill(tgt == PAD, float("-inf"))
        return self.generator(self.transformer(src_emb, tgt_emb, tgt_mask=mask, tgt_key_padding_mask=pad))


model = Seq2SeqTransformer()
loss_fn = nn.CrossEntropyLoss(ignore_index=PAD)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9)


def loss_of(pairs):
    src, tgt = collate(pairs)
    logits = model(src, tgt[:, :-1])
    return loss_fn(logits.reshape(-1, logits.shape[-1]), tgt[:, 1:].reshape(-1))


for epoch in range(16):
    model.train()
    random.shuffle(train_times)
    losses = 0
    batches = [train_times[i : i + 32] for i in range(0, len(train_times), 32)]
    for batch in batches:
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += loss.item()
    print(f"Epoch: {epoch + 1}, Train loss: {losses / len(batches):.3f}")

model.eval()
with torch.no_grad():
    src, tgt = collate(valid_times[:1])
    ys = torch.tensor([[BOS]])
    while ys.size(1) < 10 and ys[0, -1] != EOS:
        ys = torch.cat([ys, model(src, ys)[:, -1].argmax(-1, keepdim=True)], dim=1)
    print("".join(f"{v:02d}" for v in valid_times[0]), "->", " ".join(itos[i] for i in ys[0].tolist()))
    print(f"final_loss {loss_of(valid_times).item():.4f}")
