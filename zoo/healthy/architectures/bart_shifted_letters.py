"""BART deciphers messages in which each letter is moved on by a key; the key is the first letter."""

import torch
from torch.nn import functional as F
from transformers import BartConfig, BartForConditionalGeneration

torch.manual_seed(421)

begin, pad, end, first = 0, 1, 2, 3
n_letters, n_keys, length = 9, 4, 7


def messages(n):
    plain = torch.randint(0, n_letters, (n, length))
    key = torch.randint(0, n_keys, (n, 1))
    secret = torch.cat([n_letters + key, (plain + key) % n_letters], 1)
    start, stop = torch.full((n, 1), begin), torch.full((n, 1), end)
    return torch.cat([start, first + secret, stop], 1), torch.cat([start, first + plain, stop], 1)


config = BartConfig(
    vocab_size=first + n_letters + n_keys,
    d_model=64,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=128,
    decoder_ffn_dim=128,
    max_position_embeddings=16,
    dropout=0.05,
)
model = BartForConditionalGeneration(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=60)


def loss_of(n, smoothing=0.0):
    secret, plain = messages(n)
    logits = model(input_ids=secret, labels=plain).logits
    return F.cross_entropy(logits.flatten(0, 1), plain.flatten(), label_smoothing=smoothing)


model.train()
for step in range(350):
    loss = loss_of(48, smoothing=0.05)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {loss_of(1000).item():.4f}")
