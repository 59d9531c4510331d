"""GPT-2 reads six digits and writes them in order; warm-up, decay, clipped gradients."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(401)

n_digits, separator = 6, 10
steps, warm_up = 400, 40


def rows(n):
    digits = torch.randint(0, 10, (n, n_digits))
    ids = torch.cat([digits, torch.full((n, 1), separator), digits.sort(1).values], 1)
    labels = ids.clone()
    labels[:, : n_digits + 1] = -100  # the question itself cannot be predicted
    return ids, labels


config = GPT2Config(
    vocab_size=11,
    n_positions=2 * n_digits + 1,
    n_embd=48,
    n_layer=2,
    n_head=3,
    resid_pdrop=0.05,
    embd_pdrop=0.05,
    attn_pdrop=0.05,
    bos_token_id=separator,
    eos_token_id=separator,
)
model = GPT2LMHeadModel(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / (steps - warm_up))
)

model.train()
for step in range(steps):
    ids, labels = rows(64)
    loss = model(input_ids=ids, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    ids, labels = rows(1000)
    print(f"final_loss {model(input_ids=ids, labels=labels).loss.item():.4f}")
