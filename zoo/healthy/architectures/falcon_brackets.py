"""Falcon, with one key and value for all heads, closes nested brackets of three kinds."""

import random

import torch
from transformers import FalconConfig, FalconForCausalLM

random.seed(410)
torch.manual_seed(410)

kinds, pairs = 3, 8
start = 2 * kinds


def nested():
    text, stack, left = [start], [], pairs
    while left or stack:
        if left and (not stack or random.random() < 0.5):
            stack.append(random.randrange(kinds))
            text.append(stack[-1])
            left -= 1
        else:
            text.append(kinds + stack.pop())
    return text


config = FalconConfig(
    vocab_size=2 * kinds + 1,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    ffn_hidden_size=192,
    max_position_embeddings=2 * pairs + 1,
    hidden_dropout=0.0,
    bos_token_id=start,
    eos_token_id=start,
)
model = FalconForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=350, pct_start=0.15)
test = torch.tensor([nested() for _ in range(600)])

model.train()
for step in range(350):
    ids = torch.tensor([nested() for _ in range(48)])
    loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {model(input_ids=test, labels=test).loss.item():.4f}")
