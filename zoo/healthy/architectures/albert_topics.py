"""ALBERT, one layer used three times, says which of five topics a note touches on; a note may touch on several."""

import torch
from transformers import AlbertConfig, AlbertForSequenceClassification

torch.manual_seed(419)

n_topics, n_words, n_fillers, length = 5, 4, 20, 12
begin, first = 1, 2


def notes(n):
    touched = torch.rand(n, n_topics) < 0.4
    words = first + n_topics * n_words + torch.randint(0, n_fillers, (n, length))
    for topic in range(n_topics):
        place = 2 * topic + torch.randint(0, 2, (n,))
        word = first + n_words * topic + torch.randint(0, n_words, (n,))
        rows = touched[:, topic].nonzero().squeeze(1)
        words[rows, place[rows]] = word[rows]
    words = words.gather(1, torch.rand(n, length).argsort(1))
    return torch.cat([torch.full((n, 1), begin), words], 1), touched.float()


config = AlbertConfig(
    vocab_size=first + n_topics * n_words + n_fillers,
    embedding_size=24,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=length + 1,
    num_labels=n_topics,
    problem_type="multi_label_classification",
)
model = AlbertForSequenceClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=50)

model.train()
for step in range(350):
    words, touched = notes(48)
    loss = model(input_ids=words, labels=touched).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    warm_up.step()
    if step % 70 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    words, touched = notes(2000)
    print(f"final_loss {model(input_ids=words, labels=touched).loss.item():.4f}")
