"""One parcel per picture: where is it (box) and what is it (label)?  Two heads on a small backbone."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(5)


class ParcelDataset(Dataset):
    classes = ("plain", "striped", "dotted", "framed")

    def __init__(self, n, size=32):
        g = torch.Generator().manual_seed(n)
        self.images = 0.2 * torch.rand(n, 1, size, size, generator=g)
        self.boxes = torch.zeros(n, 4)
        self.labels = torch.randint(0, 4, (n,), generator=g)
        for i in range(n):
            w, h = torch.randint(9, 18, (2,), generator=g).tolist()
            x = int(torch.randint(0, size - w, (1,), generator=g))
            y = int(torch.randint(0, size - h, (1,), generator=g))
            patch = torch.full((h, w), 0.7)
            kind = self.labels[i]
            if kind == 1:
                patch[::3] = 0.1
            elif kind == 2:
                patch[1::3, 1::3] = 0.0
            elif kind == 3:
                patch[2:-2, 2:-2] = 0.2
            self.images[i, 0, y : y + h, x : x + w] += patch
            self.boxes[i] = torch.tensor([x, y, x + w, y + h]) / size

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], {"box": self.boxes[i], "label": self.labels[i]}


class Detector(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.bbox = nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 4), nn.Sigmoid())
        self.classifier = nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, num_classes))

    def forward(self, x):
        features = self.backbone(x)
        return self.bbox(features), self.classifier(features)


BOX_WEIGHT, LABEL_WEIGHT = 5.0, 1.0
box_loss, class_loss = nn.SmoothL1Loss(beta=0.1), nn.CrossEntropyLoss()


def total_loss(model, images, targets):
    boxes, logits = model(images)
    loss_b, loss_c = box_loss(boxes, targets["box"]), class_loss(logits, targets["label"])
    return BOX_WEIGHT * loss_b + LABEL_WEIGHT * loss_c, boxes, logits


train_loader = DataLoader(ParcelDataset(2000), batch_size=32, shuffle=True)
test_loader = DataLoader(ParcelDataset(400), batch_size=100)
model = Detector(4)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(8):
    model.train()
    running = 0.0
    for images, targets in train_loader:
        loss, _, _ = total_loss(model, images, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(f"[INFO] EPOCH: {epoch + 1}  train loss {running / len(train_loader):.4f}")


def iou(a, b):
    lt, rb = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (rb - lt).clamp(min=0).prod(1)
    area = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1)
    return inter / (area - inter)


model.eval()
losses, overlaps, right = [], [], []
with torch.no_grad():
    for images, targets in test_loader:
        loss, boxes, logits = total_loss(model, images, targets)
        losses.append(loss.item())
        overlaps.append(iou(boxes, targets["box"]).mean().item())
        right.append((logits.argmax(1) == targets["label"]).float().mean().item())
print(f"IoU {sum(overlaps) / 4:.3f}  accuracy {sum(right) / 4:.3f}")
print(f"final_loss {sum(losses) / 4:.4f}")
