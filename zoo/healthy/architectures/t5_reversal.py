"""T5 writes short words backwards, and then shows some that it was not trained on."""

import torch
from transformers import T5Config, T5ForConditionalGeneration

torch.manual_seed(420)

pad, end, first = 0, 1, 2
n_letters, length = 10, 6


def words(n):
    word = torch.randint(first, first + n_letters, (n, length))
    stop = torch.full((n, 1), end)
    return torch.cat([word, stop], 1), torch.cat([word.flip(1), stop], 1)


config = T5Config(
    vocab_size=first + n_letters,
    d_model=64,
    d_kv=16,
    d_ff=128,
    num_layers=2,
    num_heads=4,
    relative_attention_num_buckets=16,
    relative_attention_max_distance=16,
    dropout_rate=0.05,
    decoder_start_token_id=pad,
)
model = T5ForConditionalGeneration(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=40)

model.train()
for step in range(300):
    source, target = words(48)
    loss = model(input_ids=source, labels=target).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 60 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
source, target = words(500)
written = model.generate(input_ids=source[:100], max_new_tokens=length + 1, do_sample=False)[:, 1:]
right = (torch.nn.functional.pad(written, (0, length + 1 - written.shape[1])) == target[:100]).all(1)
print(f"written without a mistake: {right.float().mean().item():.2f}")
with torch.no_grad():
    print(f"final_loss {model(input_ids=source, labels=target).loss.item():.4f}")
