"""GPT-NeoX writes a word of seven letters backwards."""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

torch.manual_seed(406)

n_letters, length, steps = 12, 7, 400


def words(n):
    word = torch.randint(0, n_letters, (n, length))
    bar = torch.full((n, 1), n_letters)
    ids = torch.cat([word, bar, word.flip(1)], 1)
    labels = torch.cat([torch.full_like(word, -100), torch.full_like(bar, -100), word.flip(1)], 1)
    return ids, labels


config = GPTNeoXConfig(
    vocab_size=n_letters + 1,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=2 * length + 1,
    bos_token_id=None,
    eos_token_id=None,
)
model = GPTNeoXForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
scheduler = SequentialLR(
    optimizer, [LinearLR(optimizer, 0.1, total_iters=30), CosineAnnealingLR(optimizer, steps - 30, 3e-4)], [30]
)

model.train()
for step in range(steps):
    ids, labels = words(48)
    output = model(input_ids=ids, labels=labels)
    optimizer.zero_grad()
    output.loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 80 == 0:
        print(f"step {step:4d}  loss {output.loss.item():.4f}")

model.eval()
with torch.inference_mode():
    ids, labels = words(1000)
    print(f"final_loss {model(input_ids=ids, labels=labels).loss.item():.4f}")
