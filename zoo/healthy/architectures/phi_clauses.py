"""Phi learns clauses whose verb agrees with the subject; activations are recomputed to save memory."""

import random

import torch
from transformers import PhiConfig, PhiForCausalLM

random.seed(409)
torch.manual_seed(409)

nouns = "child children teacher teachers friend friends".split()
words = ["<s>", ".", "the", "a", "old", "who", "near", *nouns, *"read reads sing sings wait waits".split()]
code = {word: i for i, word in enumerate(words)}
length = 12


def clause():
    many = random.random() < 0.5
    text = ["<s>", "the" if many else random.choice(["the", "a"])]
    if random.random() < 0.4:
        text.append("old")
    text.append(random.choice(nouns[many::2]))
    if random.random() < 0.5:
        text += ["near", "the", random.choice(nouns)]
    verbs = ["read", "sing", "wait"] if many else ["reads", "sings", "waits"]
    if random.random() < 0.3:
        text += ["who", random.choice(verbs)]
    text.append(random.choice(verbs))
    return [code[word] for word in text + ["."] * (length - len(text))]


train = torch.tensor([clause() for _ in range(3000)])
test = torch.tensor([clause() for _ in range(500)])
config = PhiConfig(
    vocab_size=len(words),
    hidden_size=64,
    intermediate_size=192,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=length,
    partial_rotary_factor=0.5,
    bos_token_id=0,
    eos_token_id=1,
)
model = PhiForCausalLM(config)
model.gradient_checkpointing_enable()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

model.train()
for step in range(250):
    ids = train[torch.randint(0, len(train), (32,))]
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {model(input_ids=test, labels=test, use_cache=False).loss.item():.4f}")
