"""Pre-train on leaf outlines, then teach the network new seedlings: head first, all of it later, with checkpoints."""

import math
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(606)
SIZE = 20


def plants(n, species):
    """Rosettes: the number of leaves and their form make the species."""
    y = torch.randint(0, len(species), (n,))
    lobes = torch.tensor([s[0] for s in species])[y].view(n, 1, 1)
    depth = torch.tensor([s[1] for s in species])[y].view(n, 1, 1)
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    cx, cy = 0.3 * (torch.rand(2, n, 1, 1) - 0.5)
    r = ((xs - cx) ** 2 + (ys - cy) ** 2).sqrt()
    phi = torch.atan2(ys - cy, xs - cx) + 2 * math.pi * torch.rand(n, 1, 1)
    edge = (0.55 + 0.15 * torch.rand(n, 1, 1)) * (1 + depth * torch.cos(lobes * phi)) / (1 + depth)
    green = torch.sigmoid((edge - r) * 15)
    colour = torch.tensor([0.3, 0.7, 0.25]).view(1, 3, 1, 1) * (0.8 + 0.4 * torch.rand(n, 1, 1, 1))
    soil = torch.tensor([0.4, 0.3, 0.2]).view(1, 3, 1, 1)
    g = green.unsqueeze(1)
    x = g * colour + (1 - g) * soil + 0.06 * torch.randn(n, 3, SIZE, SIZE)
    mean, std = torch.tensor([0.36, 0.43, 0.23]), torch.tensor([0.12, 0.2, 0.1])
    return (x - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1), y


def conv_bn(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class PlantNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.backbone = nn.Sequential(
            conv_bn(3, 12), nn.MaxPool2d(2), conv_bn(12, 24), nn.MaxPool2d(2), conv_bn(24, 32), nn.Flatten()
        )
        self.fc = nn.Linear(32 * 25, n_classes)

    def forward(self, x):
        return self.fc(self.backbone(x))


def evaluate(model, x, y):
    was_training = model.training
    model.eval()
    with torch.no_grad():
        out = model(x)
    model.train(was_training)
    return F.cross_entropy(out, y).item(), (out.argmax(1) == y).float().mean().item()


def save_checkpoint(path, **objects):
    torch.save({k: v.state_dict() if hasattr(v, "state_dict") else v for k, v in objects.items()}, path)


old_species = [(0, 0.0), (3, 0.4), (4, 0.4), (5, 0.5), (2, 0.3), (8, 0.3)]
new_species = [(3, 0.15), (4, 0.8), (6, 0.5), (2, 0.6)]
folder = tempfile.mkdtemp()
path = os.path.join(folder, "last.pt")

# stage 1: the large old collection
model = PlantNet(len(old_species))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
for _ in range(150):
    x, y = plants(48, old_species)
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("old species", evaluate(model, *plants(500, old_species)))
save_checkpoint(path, model=model)

# stage 2: few photos of new species; the backbone stays as it is, in evaluation mode
photos, names = plants(240, new_species)
held_x, held_y = plants(600, new_species)

model = PlantNet(len(new_species))
state = {k: v for k, v in torch.load(path)["model"].items() if not k.startswith("fc.")}
print("missing keys", model.load_state_dict(state, strict=False).missing_keys)
for p in model.backbone.parameters():
    p.requires_grad = False
optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-3)
for _epoch in range(8):
    model.train()
    model.backbone.eval()
    for ix in torch.randperm(len(photos)).split(24):
        loss = F.cross_entropy(model(photos[ix]), names[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print("head only", evaluate(model, held_x, held_y))

# stage 3: everything, the backbone more slowly; interrupted and resumed once
for p in model.backbone.parameters():
    p.requires_grad = True


def make_optimizer(model):
    return torch.optim.Adam(
        [{"params": model.backbone.parameters(), "lr": 1e-4}, {"params": model.fc.parameters(), "lr": 5e-4}]
    )


optimizer = make_optimizer(model)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
epoch = 0
while epoch < 12:
    model.train()
    for ix in torch.randperm(len(photos)).split(24):
        loss = F.cross_entropy(model(photos[ix]), names[ix])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scheduler.step()
    epoch += 1
    if epoch == 6:
        save_checkpoint(path, model=model, optimizer=optimizer, scheduler=scheduler, epoch=epoch)
        model = PlantNet(len(new_species))
        optimizer = make_optimizer(model)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
        checkpoint = torch.load(path)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
        epoch = checkpoint["epoch"]
        print(f"resumed at epoch {epoch}", evaluate(model, held_x, held_y))

os.remove(path)
os.rmdir(folder)
final, accuracy = evaluate(model, held_x, held_y)
print(f"accuracy {accuracy:.3f}")
print(f"final_loss {final:.4f}")
