"""Qwen3 in bfloat16 autocast: each row says how long its motif is, then repeats the motif."""

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

torch.manual_seed(404)

n_symbols, length, periods = 8, 16, torch.tensor([2, 3, 4])


def rows(n):
    which = torch.randint(0, len(periods), (n, 1))
    motif = torch.randint(0, n_symbols, (n, int(periods.max())))
    body = motif.gather(1, torch.arange(length) % periods[which])
    ids = torch.cat([n_symbols + which, body], 1)
    seen = torch.arange(length + 1) <= periods[which]
    return ids, ids.masked_fill(seen, -100)


config = Qwen3Config(
    vocab_size=n_symbols + len(periods),
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    max_position_embeddings=length + 1,
    tie_word_embeddings=True,
)
model = Qwen3ForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)

model.train()
for step in range(240):
    for group in optimizer.param_groups:
        group["lr"] = 3e-3 * min(1.0, (step + 1) / 50)
    ids, labels = rows(48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(input_ids=ids, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 40 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    ids, labels = rows(1000)
    print(f"final_loss {model(input_ids=ids, labels=labels).loss.item():.4f}")
