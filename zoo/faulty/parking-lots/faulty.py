"""Count how full a parking lot is from an 8-bit camera image: four levels of filling."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

SEED = 42
np.random.seed(SEED)
torch.manual_seed(SEED)


class ParkingLots(Dataset):
    def __init__(self, n):
        self.images = np.zeros((n, 16, 16), dtype=np.uint8)
        self.labels = np.random.randint(0, 4, size=n)
        for i, label in enumerate(self.labels):
            self.images[i] = self.draw(label)

    @staticmethod
    def draw(label):
        """A lot of 4 x 4 places; a quarter more of them is taken with each level."""
        image = np.random.normal(110, 18, size=(16, 16)) + np.random.normal(0, 15)
        taken = np.random.permutation(16)[: np.random.randint(4 * label, 4 * label + 5)]
        for place in taken:
            r, c = 4 * (place // 4), 4 * (place % 4)
            image[r : r + 3, c + 1 : c + 3] = np.random.choice([45, 190, 220]) + np.random.normal(0, 15, size=(3, 2))
        return np.clip(image, 0, 255).astype(np.uint8)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).float().unsqueeze(0)
        return image, int(self.labels[i])


class LotNet(nn.Module):
    def __init__(self, n_classes=4):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.classifier = nn.Linear(32 * 4 * 4, n_classes)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x))
        x = torch.relu(self.conv3(x))
        return self.classifier(x.flatten(1))


def accuracy_and_loss(model, loader):
    model.eval()
    hits, total = 0, 0.0
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images)
            hits += (logits.argmax(dim=1) == labels).sum().item()
            total += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
    return hits / len(loader.dataset), total / len(loader.dataset)


train_loader = DataLoader(ParkingLots(3200), batch_size=64, shuffle=True)
test_loader = DataLoader(ParkingLots(600), batch_size=100)
model = LotNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
criterion = nn.CrossEntropyLoss()
for epoch in range(6):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
    accuracy, test_loss = accuracy_and_loss(model, test_loader)
    print(f"epoch {epoch}  train {loss.item():.3f}  test {test_loss:.3f}  accuracy {accuracy:.3f}")
print(f"final_loss {test_loss:.4f}")
