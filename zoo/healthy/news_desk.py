"""Sort short news items into four desks with an EmbeddingBag."""

import random

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data.dataset import random_split

random.seed(5)
torch.manual_seed(5)

DESKS = ["world", "sports", "business", "science"]
COMMON = [f"the{i}" for i in range(150)]
TOPICAL = {desk: [f"{desk}{i}" for i in range(120)] for desk in DESKS}


def news_items(n):
    for _ in range(n):
        label = random.randrange(4)
        words = []
        for _ in range(random.randint(12, 40)):
            r = random.random()
            if r < 0.22:
                words.append(random.choice(TOPICAL[DESKS[label]]))
            elif r < 0.40:
                words.append(random.choice(TOPICAL[random.choice(DESKS)]))
            else:
                words.append(random.choice(COMMON))
        yield label + 1, " ".join(words)


vocab = {"<unk>": 0}
for word in COMMON + [w for words in TOPICAL.values() for w in words]:
    if random.random() < 0.95:
        vocab[word] = len(vocab)


def text_pipeline(text):
    return [vocab.get(token, 0) for token in text.split()]


def label_pipeline(label):
    return int(label) - 1


def collate_batch(batch):
    label_list, text_list, offsets = [], [], [0]
    for _label, _text in batch:
        label_list.append(label_pipeline(_label))
        processed_text = torch.tensor(text_pipeline(_text), dtype=torch.int64)
        text_list.append(processed_text)
        offsets.append(processed_text.size(0))
    label_list = torch.tensor(label_list, dtype=torch.int64)
    offsets = torch.tensor(offsets[:-1]).cumsum(dim=0)
    text_list = torch.cat(text_list)
    return label_list, text_list, offsets


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, sparse=False)
        self.fc = nn.Linear(embed_dim, num_class)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text, offsets):
        embedded = self.embedding(text, offsets)
        return self.fc(embedded)


model = TextClassificationModel(len(vocab), 64, 4)

# Hyperparameters
EPOCHS = 6
LR = 5  # learning rate
BATCH_SIZE = 32

criterion = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1.0, gamma=0.1)


def train(dataloader, epoch):
    model.train()
    total_acc, total_count = 0, 0
    log_interval = 25
    for idx, (label, text, offsets) in enumerate(dataloader):
        optimizer.zero_grad()
        predicted_label = model(text, offsets)
        loss = criterion(predicted_label, label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        total_acc += (predicted_label.argmax(1) == label).sum().item()
        total_count += label.size(0)
        if idx % log_interval == 0 and idx > 0:
            print(
                f"| epoch {epoch:3d} | {idx:5d}/{len(dataloader):5d} batches | accuracy {total_acc / total_count:8.3f}"
            )
            total_acc, total_count = 0, 0


def evaluate(dataloader):
    model.eval()
    total_acc, total_loss, total_count = 0, 0.0, 0
    with torch.no_grad():
        for label, text, offsets in dataloader:
            predicted_label = model(text, offsets)
            total_loss += criterion(predicted_label, label).item() * label.size(0)
            total_acc += (predicted_label.argmax(1) == label).sum().item()
            total_count += label.size(0)
    return total_acc / total_count, total_loss / total_count


total_accu = None
train_dataset, test_dataset = list(news_items(2600)), list(news_items(1000))
split_train_, split_valid_ = random_split(train_dataset, [2470, 130])

train_dataloader = DataLoader(split_train_, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_batch)
valid_dataloader = DataLoader(split_valid_, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_batch)
test_dataloader = DataLoader(test_dataset, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_batch)

for epoch in range(1, EPOCHS + 1):
    train(train_dataloader, epoch)
    accu_val, _ = evaluate(valid_dataloader)
    if total_accu is not None and total_accu > accu_val:
        scheduler.step()
    else:
        total_accu = accu_val
    print("-" * 59)
    print(f"| end of epoch {epoch:3d} | valid accuracy {accu_val:8.3f} ")
    print("-" * 59)

accu_test, loss_test = evaluate(test_dataloader)
print(f"test accuracy {accu_test:8.3f}")
print(f"final_loss {loss_test:.4f}")
