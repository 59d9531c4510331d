"""BERT fills in the hidden places of random walks on a ring of twelve rooms."""

import torch
from transformers import BertConfig, BertForMaskedLM, get_linear_schedule_with_warmup

torch.manual_seed(414)

n_rooms, length, steps = 12, 16, 400
first, blank = 2, 1  # 0 is padding


def walks(n):
    moves = torch.randint(0, 2, (n, length)) * 2 - 1
    ids = first + moves.cumsum(1).add(torch.randint(0, n_rooms, (n, 1))) % n_rooms
    hidden = torch.rand(n, length) < 0.2
    return {"input_ids": ids.masked_fill(hidden, blank), "labels": ids.masked_fill(~hidden, -100)}


config = BertConfig(
    vocab_size=first + n_rooms,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=length,
    hidden_dropout_prob=0.05,
    attention_probs_dropout_prob=0.05,
)
model = BertForMaskedLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=60, num_training_steps=steps)

model.train()
for step in range(steps):
    loss = model(**walks(48)).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {model(**walks(2000)).loss.item():.4f}")
