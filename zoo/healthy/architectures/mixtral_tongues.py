"""Mixtral learns texts in three tongues, each with its own successors of a letter; experts share the load."""

import torch
from transformers import MixtralConfig, MixtralForCausalLM

torch.manual_seed(413)

n_letters, n_tongues, length = 10, 3, 16
successors = torch.rand(n_tongues, n_letters, n_letters).argsort(2)[:, :, :2]


def texts(n):
    tongue = torch.randint(0, n_tongues, (n,))
    text = torch.randint(0, n_letters, (n, length))
    text[:, 0] = n_letters + tongue
    for t in range(2, length):
        text[:, t] = successors[tongue, text[:, t - 1], (torch.rand(n) < 0.25).long()]
    return text


config = MixtralConfig(
    vocab_size=n_letters + n_tongues,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_local_experts=4,
    num_experts_per_tok=2,
    output_router_logits=True,
    router_aux_loss_coef=0.02,
    max_position_embeddings=length,
    bos_token_id=None,
    eos_token_id=None,
)
model = MixtralForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=40)

model.train()
for step in range(300):
    ids = texts(32)
    output = model(input_ids=ids, labels=ids)
    optimizer.zero_grad()
    output.loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {output.loss.item():.4f}  balance {output.aux_loss.item():.3f}")

model.eval()
with torch.no_grad():
    ids = texts(1000)
    print(f"final_loss {model(input_ids=ids, labels=ids, output_router_logits=False).loss.item():.4f}")
