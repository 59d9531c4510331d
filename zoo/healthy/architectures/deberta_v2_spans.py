"""DeBERTa finds the stretch of a text that belongs to the section asked for."""

import random

import torch
from transformers import DebertaV2Config, DebertaV2ForQuestionAnswering

random.seed(418)
torch.manual_seed(418)

n_sections, n_words, length = 4, 8, 18
first_word = 1 + n_sections  # 0 is padding


def example():
    asked = random.randrange(n_sections)
    ids, span = [1 + asked], None
    for section in random.sample(range(n_sections), n_sections):
        words = [first_word + random.randrange(n_words) for _ in range(random.randint(1, 3))]
        if section == asked:
            span = len(ids) + 1, len(ids) + len(words)
        ids += [1 + section, *words]
    return ids + [0] * (length - len(ids)), *span


def texts(n):
    ids, start, end = zip(*(example() for _ in range(n)), strict=True)
    ids = torch.tensor(ids)
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "start_positions": torch.tensor(start),
        "end_positions": torch.tensor(end),
    }


config = DebertaV2Config(
    vocab_size=first_word + n_words,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=length,
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    position_buckets=8,
    share_att_key=True,
    norm_rel_ebd="layer_norm",
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
model = DebertaV2ForQuestionAnswering(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=50)

model.train()
for step in range(350):
    loss = model(**texts(48)).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {model(**texts(1000)).loss.item():.4f}")
