"""DeBERTa finds the quoted stretch of a text; single marks that open or close nothing stand about it."""

import random

import torch
from transformers import DebertaV2Config, DebertaV2ForQuestionAnswering

random.seed(418)
torch.manual_seed(418)

n_words, length = 8, 18
opening, closing, single, first_word = 1, 2, 3, 4  # 0 is padding


def example():
    words = random.choices(range(single, first_word + n_words), k=random.randint(8, length - 2))
    start = random.randrange(len(words) - 4)
    size = random.randint(1, 4)
    ids = [*words[:start], opening, *words[start : start + size], closing, *words[start + size :]]
    return ids + [0] * (length - len(ids)), start + 1, start + size


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
for step in range(250):
    loss = model(**texts(48)).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 50 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {model(**texts(1000)).loss.item():.4f}")
