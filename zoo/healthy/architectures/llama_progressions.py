"""Llama continues arithmetic progressions modulo 13 under the usual cosine schedule."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup

torch.manual_seed(402)

modulus, length, steps = 13, 10, 400


def progressions(n):
    start, difference = torch.randint(0, modulus, (n, 1)), torch.randint(1, 5, (n, 1))
    return (start + difference * torch.arange(length)) % modulus


config = LlamaConfig(
    vocab_size=modulus,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=length,
    bos_token_id=None,
    eos_token_id=None,
)
model = LlamaForCausalLM(config)
decayed = [p for p in model.parameters() if p.dim() > 1]
plain = [p for p in model.parameters() if p.dim() == 1]
optimizer = torch.optim.AdamW(
    [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=2e-3, betas=(0.9, 0.95)
)
scheduler = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=40, num_training_steps=steps)

model.train()
for step in range(steps):
    ids = progressions(48)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}  lr {scheduler.get_last_lr()[0]:.1e}")

model.eval()
with torch.no_grad():
    ids = progressions(1000)
    print(f"final_loss {model(input_ids=ids, labels=ids).loss.item():.4f}")
