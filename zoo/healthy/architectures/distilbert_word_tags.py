"""DistilBERT tags each word; ambiguous words take their tag from the word before."""

import torch
from torch.utils.data import DataLoader, TensorDataset
from transformers import DistilBertConfig, DistilBertForTokenClassification

torch.manual_seed(416)

n_words, n_tags, length = 24, 4, 14
own_tag = torch.randint(0, n_tags, (n_words,))
ambiguous = torch.arange(n_words) % 3 == 0


def sentences(n):
    words = torch.randint(0, n_words, (n, length))
    before = words.roll(1, 1)
    before[:, 0] = 1
    tags = torch.where(ambiguous[words], (own_tag[words] + own_tag[before]) % n_tags, own_tag[words])
    return TensorDataset(words + 1, tags)


config = DistilBertConfig(
    vocab_size=n_words + 1,
    dim=64,
    hidden_dim=128,
    n_layers=2,
    n_heads=4,
    max_position_embeddings=length,
    num_labels=n_tags,
)
model = DistilBertForTokenClassification(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.01)
train, test = sentences(4800), sentences(800)

for epoch in range(4):
    model.train()
    for words, tags in DataLoader(train, batch_size=48, shuffle=True, drop_last=True):
        loss = model(input_ids=words, labels=tags).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    words, tags = test.tensors
    print(f"final_loss {model(input_ids=words, labels=tags).loss.item():.4f}")
