"""ELECTRA: a small generator fills in hidden words, and a larger model finds out which ones it replaced."""

import torch
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

torch.manual_seed(417)

n_words, length, blank, first = 12, 16, 1, 2
follows = torch.rand(n_words, n_words).argsort(1)[:, :2]


def texts(n):
    text = torch.randint(0, n_words, (n, length))
    for t in range(1, length):
        text[:, t] = follows[text[:, t - 1], torch.randint(0, 2, (n,))]
    return text + first


def electra(width, heads):
    return ElectraConfig(
        vocab_size=n_words + first,
        embedding_size=32,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=length,
        hidden_dropout_prob=0.05,
        attention_probs_dropout_prob=0.05,
    )


generator, model = ElectraForMaskedLM(electra(24, 2)), ElectraForPreTraining(electra(64, 4))
model.electra.embeddings.word_embeddings = generator.electra.embeddings.word_embeddings
parameters = list({id(p): p for part in (generator, model) for p in part.parameters()}.values())
optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=40)


def losses(text):
    hidden = torch.rand(text.shape) < 0.2
    filled = generator(input_ids=text.masked_fill(hidden, blank), labels=text.masked_fill(~hidden, -100))
    with torch.no_grad():
        guess = torch.distributions.Categorical(logits=filled.logits[..., first:]).sample() + first
    corrupted = torch.where(hidden, guess, text)
    found = model(input_ids=corrupted, labels=(corrupted != text).long())
    return filled.loss, found.loss


for step in range(300):
    filling, finding = losses(texts(48))
    optimizer.zero_grad()
    (filling + 5 * finding).backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    warm_up.step()
    if step % 60 == 0:
        print(f"step {step:4d}  filling {filling.item():.4f}  finding {finding.item():.4f}")

generator.eval()
model.eval()
with torch.no_grad():
    filling, finding = losses(texts(1500))
    print(f"final_loss {(filling + 5 * finding).item():.4f}")
