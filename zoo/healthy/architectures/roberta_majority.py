"""RoBERTa tells which of three kinds of words a sentence of any length has most of."""

import torch
from transformers import RobertaConfig, RobertaForSequenceClassification

torch.manual_seed(415)

begin, pad, end, first = 0, 1, 2, 3
n_kinds, n_words, longest = 3, 5, 12


def sentences(n):
    label = torch.randint(0, n_kinds, (n,))
    kind = torch.where(torch.rand(n, longest) < 0.4, label[:, None], torch.randint(0, n_kinds, (n, longest)))
    size = torch.randint(6, longest + 1, (n, 1))
    words = first + n_words * kind + torch.randint(0, n_words, (n, longest))
    place = torch.arange(longest)
    words = torch.where(place < size, words, torch.where(place == size, end, pad))
    ids = torch.cat([torch.full((n, 1), begin), words], 1)
    inside = (ids != pad).long()
    counts = torch.stack([((kind == k) & (place < size)).sum(1) for k in range(n_kinds)], 1)
    return {"input_ids": ids, "attention_mask": inside, "labels": counts.argmax(1)}


config = RobertaConfig(
    vocab_size=first + n_kinds * n_words,
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    max_position_embeddings=longest + 4,
    num_labels=n_kinds,
    type_vocab_size=1,
)
model = RobertaForSequenceClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=50)

for step in range(350):
    model.train()
    loss = model(**sentences(48)).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    warm_up.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    output = model(**(batch := sentences(2000)))
    accuracy = (output.logits.argmax(1) == batch["labels"]).float().mean()
    print(f"accuracy {accuracy.item():.3f}")
    print(f"final_loss {output.loss.item():.4f}")
