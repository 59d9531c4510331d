"""Mamba keeps the symbol after the latest mark in mind, however many others follow, and names it at the end."""

import torch
from transformers import MambaConfig, MambaForCausalLM

torch.manual_seed(411)

n_symbols, length = 6, 10
mark, ask = n_symbols, n_symbols + 1


def rows(n):
    ids = torch.randint(0, n_symbols, (n, length))
    place = torch.randint(0, length - 2, (n, 1))
    ids.scatter_(1, place, mark)
    answer = ids.gather(1, place + 1)
    ids = torch.cat([ids, torch.full((n, 1), ask), answer], 1)
    labels = torch.full_like(ids, -100)
    labels[:, -1] = ids[:, -1]
    return ids, labels


config = MambaConfig(
    vocab_size=n_symbols + 2,
    hidden_size=32,
    state_size=8,
    num_hidden_layers=2,
    pad_token_id=None,
    bos_token_id=None,
    eos_token_id=None,
    use_cache=False,
)
model = MambaForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=30)

model.train()
for step in range(160):
    ids, labels = rows(64)
    loss = model(input_ids=ids, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    ids, labels = rows(1000)
    print(f"final_loss {model(input_ids=ids, labels=labels).loss.item():.4f}")
