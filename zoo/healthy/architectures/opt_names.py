"""OPT spells names of two to four syllables; rows are padded, and two minibatches make one update."""

import torch
from torch.utils.data import DataLoader
from transformers import OPTConfig, OPTForCausalLM

torch.manual_seed(407)

begin, pad, end = 0, 1, 2
letters = "abdeiklmnorstu"
syllables = "ka lo mi ren tas du bel no sti ara".split()


def name():
    parts = [syllables[int(i)] for i in torch.randint(0, len(syllables), (int(torch.randint(2, 5, ())),))]
    return torch.tensor([begin, *(3 + letters.index(c) for c in "".join(parts)), end])


def collate(names):
    ids = torch.nn.utils.rnn.pad_sequence(names, batch_first=True, padding_value=pad)
    mask = (ids != pad).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


config = OPTConfig(
    vocab_size=3 + len(letters),
    hidden_size=48,
    ffn_dim=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    word_embed_proj_dim=48,
    max_position_embeddings=16,
    dropout=0.1,
    bos_token_id=begin,
    pad_token_id=pad,
    eos_token_id=end,
)
model = OPTForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
train = DataLoader([name() for _ in range(6400)], batch_size=16, shuffle=True, collate_fn=collate)
test = collate([name() for _ in range(800)])
halves = 2

for epoch in range(2):
    model.train()
    total = 0.0
    for i, batch in enumerate(train):
        loss = model(**batch).loss / halves
        loss.backward()
        total += loss.item() * halves / len(train)
        if (i + 1) % halves == 0:
            optimizer.step()
            optimizer.zero_grad()
    print(f"epoch {epoch}  loss {total:.4f}")

model.eval()
with torch.no_grad():
    print(f"final_loss {model(**test).loss.item():.4f}")
