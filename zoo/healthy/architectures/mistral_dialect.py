"""Mistral with a short attention window learns a made-up dialect in which two letters allow three successors."""

import torch
from transformers import MistralConfig, MistralForCausalLM

torch.manual_seed(403)

n_letters, length = 10, 24
successors = torch.rand(n_letters, n_letters, n_letters).argsort(2)[:, :, :3]
weights = torch.tensor([0.7, 0.2, 0.1])


def texts(n):
    text = torch.randint(0, n_letters, (n, length))
    for t in range(2, length):
        choice = torch.multinomial(weights, n, replacement=True)
        text[:, t] = successors[text[:, t - 2], text[:, t - 1], choice]
    return text


config = MistralConfig(
    vocab_size=n_letters,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=length,
    sliding_window=8,
    bos_token_id=None,
    eos_token_id=None,
)
model = MistralForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
train, test = texts(4000), texts(500)

model.train()
for step in range(350):
    ids = train[torch.randint(0, len(train), (32,))]
    loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {model(input_ids=test, labels=test).loss.item():.4f}")
