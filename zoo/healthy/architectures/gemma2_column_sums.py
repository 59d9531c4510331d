"""Gemma 2 adds two numbers of two digits, written from the last digit to the first."""

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

torch.manual_seed(405)

equals, question = 10, 5


def sums(n):
    a, b = torch.randint(0, 100, (n,)), torch.randint(0, 100, (n,))
    c = a + b
    columns = [a % 10, a // 10, b % 10, b // 10, torch.full((n,), equals), c % 10, c // 10 % 10, c // 100]
    ids = torch.stack(columns, 1)
    labels = ids.clone()
    labels[:, :question] = -100
    return ids, labels


config = Gemma2Config(
    vocab_size=11,
    hidden_size=64,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    query_pre_attn_scalar=16,
    max_position_embeddings=8,
    sliding_window=8,
    pad_token_id=None,
    bos_token_id=None,
    eos_token_id=None,
)
model = Gemma2ForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=40)

model.train()
for step in range(450):
    ids, labels = sums(96)
    loss = model(input_ids=ids, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    warm_up.step()
    if step % 90 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    ids, labels = sums(2000)
    print(f"final_loss {model(input_ids=ids, labels=labels).loss.item():.4f}")
