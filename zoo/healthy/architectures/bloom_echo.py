"""BLOOM, which knows distances alone, predicts a stream that mostly repeats what stood two places back."""

import torch
from transformers import BloomConfig, BloomForCausalLM

torch.manual_seed(408)

n_symbols, length, delay = 9, 20, 2


def streams(n):
    stream = torch.randint(0, n_symbols, (n, length))
    keep = torch.rand(n, length) < 0.9
    for t in range(delay, length):
        stream[:, t] = torch.where(keep[:, t], stream[:, t - delay], stream[:, t])
    return stream


model = BloomForCausalLM(
    BloomConfig(vocab_size=n_symbols, hidden_size=64, n_layer=2, n_head=8, bos_token_id=None, eos_token_id=None)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1, betas=(0.9, 0.98))
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=50)

model.train()
for step in range(300):
    ids = streams(48)
    optimizer.zero_grad()
    loss = model(ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    warm_up.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    ids = streams(1000)
    print(f"final_loss {model(ids, labels=ids).loss.item():.4f}")
