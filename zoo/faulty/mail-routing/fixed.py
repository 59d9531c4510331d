"""Route a letter to one of eight offices by the words on it (bag of embeddings)."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(17)
torch.manual_seed(17)

VOCAB, OFFICES, LENGTH = 200, 8, 16
word_office = torch.randint(0, OFFICES, (VOCAB,))


def letters(n):
    office = torch.tensor([random.randrange(OFFICES) for _ in range(n)])
    words = torch.randint(0, VOCAB, (n, LENGTH))
    own = [torch.nonzero(word_office == k)[:, 0] for k in range(OFFICES)]
    for i, k in enumerate(office.tolist()):
        n_own = random.randint(2, 6)
        words[i, :n_own] = own[k][torch.randint(0, len(own[k]), (n_own,))]
    return words, office


class Router(nn.Module):
    def __init__(self, dim=48, p_drop=0.5):
        super().__init__()
        self.p_drop = p_drop
        self.words = nn.Embedding(VOCAB, dim)
        self.fc1 = nn.Linear(dim, 96)
        self.fc2 = nn.Linear(96, OFFICES)

    def forward(self, words):
        x = self.words(words).mean(dim=1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, p=self.p_drop, training=self.training)
        return self.fc2(x)


train_words, train_office = letters(2400)
test_words, test_office = letters(1000)
router = Router()
optimizer = torch.optim.RMSprop(router.parameters(), lr=2e-3)

step = 0
for epoch in range(8):
    router.train()
    for idx in torch.randperm(len(train_words)).split(60):
        logits = router(train_words[idx])
        loss = F.cross_entropy(logits, train_office[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    print(f"epoch {epoch} step {step} loss {loss.item():.4f}")

router.eval()
with torch.no_grad():
    print(f"final_loss {F.cross_entropy(router(test_words), test_office).item():.4f}")
