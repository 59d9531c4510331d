"""Feeder camera: sort thumbnails by species. Was a notebook once."""

import numpy as np
import torch
import torch.nn as nn


class CFG:
    seed = 2024
    img_size = 16
    n_species = 6
    batch_size = 48
    epochs = 5
    n_train = 2880
    n_valid = 960
    lr = 2e-3


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %% data
stripe = np.random.uniform(0.5, 2.2, size=CFG.n_species)
angle = np.linspace(0, np.pi, CFG.n_species, endpoint=False)
tint = np.random.randn(CFG.n_species, 3)


def make_images(n):
    label = np.random.randint(0, CFG.n_species, size=n)
    yy, xx = np.mgrid[0 : CFG.img_size, 0 : CFG.img_size] / CFG.img_size * 2 * np.pi
    phase = np.random.uniform(0, 2 * np.pi, size=(n, 1, 1))
    a, s = angle[label][:, None, None], stripe[label][:, None, None]
    wave = np.sin(s * (np.cos(a) * xx + np.sin(a) * yy) * 1.5 + phase)
    img = wave[:, None] + 0.25 * tint[label][:, :, None, None] + 0.9 * np.random.randn(n, 3, CFG.img_size, CFG.img_size)
    return torch.tensor(img, dtype=torch.float32), torch.tensor(label)


class BirdDataset(torch.utils.data.Dataset):
    def __init__(self, n):
        self.images, self.labels = make_images(n)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


train_loader = torch.utils.data.DataLoader(BirdDataset(CFG.n_train), batch_size=CFG.batch_size, shuffle=True)
valid_loader = torch.utils.data.DataLoader(BirdDataset(CFG.n_valid), batch_size=CFG.batch_size * 2)

# %% model
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(128, CFG.n_species),
    nn.Softmax(dim=1),
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr)


def train_one_epoch():
    model.train()
    running = 0.0
    for images, labels in train_loader:
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running / len(train_loader)


def validate():
    model.eval()
    total, hits = 0.0, 0
    with torch.no_grad():
        for images, labels in valid_loader:
            outputs = model(images)
            total += criterion(outputs, labels).item() * len(labels)
            hits += (outputs.argmax(1) == labels).sum().item()
    return total / CFG.n_valid, hits / CFG.n_valid


# %% run
for epoch in range(CFG.epochs):
    train_loss = train_one_epoch()
    valid_loss, valid_acc = validate()
    print(f"Epoch {epoch + 1} - train: {train_loss:.4f} valid: {valid_loss:.4f} acc: {valid_acc:.3f}")
print(f"final_loss {valid_loss:.4f}")
