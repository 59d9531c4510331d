"""RWKV learns chimes: each bell is followed by the next or the one after the next, as the row's first bell says."""

import torch
from transformers import RwkvConfig, RwkvForCausalLM

torch.manual_seed(412)

n_bells, length = 8, 12


def chimes(n):
    stride = torch.randint(1, 3, (n, 1))
    start = torch.randint(0, n_bells, (n, 1))
    bells = (start + stride * torch.arange(length - 1)) % n_bells
    return torch.cat([n_bells + stride - 1, bells], 1)


config = RwkvConfig(
    vocab_size=n_bells + 2,
    hidden_size=48,
    num_hidden_layers=2,
    attention_hidden_size=48,
    intermediate_size=96,
    context_length=length,
    bos_token_id=None,
    eos_token_id=None,
)
model = RwkvForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99))

model.train()
for step in range(250):
    ids = chimes(32)
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    ids = chimes(600)
    print(f"final_loss {model(input_ids=ids, labels=ids, use_cache=False).loss.item():.4f}")
