"""A small ViT that reads domino tiles: which half has more pips, and by how much (classes -3..3)."""

import math

import torch
from torch import nn

torch.manual_seed(64)

PIPS = {
    0: [],
    1: [(3, 3)],
    2: [(1, 1), (5, 5)],
    3: [(1, 1), (3, 3), (5, 5)],
}


def tiles(n):
    """8 x 16 pictures of two halves with up to three pips each, shifted a little and noisy."""
    left, right = torch.randint(0, 4, (2, n))
    img = torch.zeros(n, 1, 8, 16)
    for i in range(n):
        dy, dx = torch.randint(0, 2, (2,)).tolist()
        for side, count in ((0, int(left[i])), (8, int(right[i]))):
            for y, x in PIPS[count]:
                img[i, 0, y + dy, side + x + dx] = 1.0
    return img + 0.15 * torch.randn_like(img), left - right + 3


def pair(t):
    return t if isinstance(t, tuple) else (t, t)


class FeedForward(nn.Module):
    def __init__(self, dim, hidden_dim, dropout=0.0):
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        return self.net(x)


class Attention(nn.Module):
    def __init__(self, dim, heads=4, dim_head=16, dropout=0.0):
        super().__init__()
        inner_dim = dim_head * heads
        self.heads, self.scale = heads, dim_head**-0.5
        self.norm = nn.LayerNorm(dim)
        self.attend = nn.Softmax(dim=-1)
        self.dropout = nn.Dropout(dropout)
        self.to_qkv = nn.Linear(dim, inner_dim * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner_dim, dim), nn.Dropout(dropout))

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.to_qkv(self.norm(x)).chunk(3, dim=-1))
        attn = self.dropout(self.attend(q @ k.transpose(-1, -2) * self.scale))
        return self.to_out((attn @ v).transpose(1, 2).reshape(b, n, -1))


class ViT(nn.Module):
    def __init__(
        self, *, image_size, patch_size, num_classes, dim, depth, heads, mlp_dim, dropout=0.1, emb_dropout=0.1
    ):
        super().__init__()
        (ih, iw), (ph, pw) = pair(image_size), pair(patch_size)
        self.patch = (ph, pw)
        num_patches = (ih // ph) * (iw // pw)
        patch_dim = ph * pw
        self.to_patch_embedding = nn.Sequential(nn.LayerNorm(patch_dim), nn.Linear(patch_dim, dim), nn.LayerNorm(dim))
        self.pos_embedding = nn.Parameter(torch.randn(1, num_patches + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.dropout = nn.Dropout(emb_dropout)
        self.layers = nn.ModuleList(
            [
                nn.ModuleList([Attention(dim, heads, dim // heads, dropout), FeedForward(dim, mlp_dim, dropout)])
                for _ in range(depth)
            ]
        )
        self.norm = nn.LayerNorm(dim)
        self.mlp_head = nn.Linear(dim, num_classes)

    def forward(self, img):
        patches = nn.functional.unfold(img, self.patch, stride=self.patch).transpose(1, 2)
        x = self.to_patch_embedding(patches)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = self.dropout(x + self.pos_embedding)
        for attn, ff in self.layers:
            x = attn(x) + x
            x = ff(x) + x
        return self.mlp_head(self.norm(x)[:, 0])


x_train, y_train = tiles(3000)
x_test, y_test = tiles(500)
model = ViT(image_size=(8, 16), patch_size=4, num_classes=7, dim=64, depth=2, heads=4, mlp_dim=128)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
EPOCHS, BATCH = 11, 64
steps = EPOCHS * math.ceil(3000 / BATCH)
warmup = steps // 10
scheduler = torch.optim.lr_scheduler.SequentialLR(
    optimizer,
    [
        torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=warmup),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup),
    ],
    milestones=[warmup],
)

for epoch in range(EPOCHS):
    model.train()
    epoch_loss = epoch_accuracy = 0.0
    for idx in torch.randperm(3000).split(BATCH):
        output = model(x_train[idx])
        loss = criterion(output, y_train[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        epoch_loss += loss.item() * len(idx) / 3000
        epoch_accuracy += (output.argmax(dim=1) == y_train[idx]).float().sum().item() / 3000
    print(f"Epoch : {epoch + 1} - loss : {epoch_loss:.4f} - acc: {epoch_accuracy:.4f}")

model.eval()
with torch.no_grad():
    output = model(x_test)
    print(f"test acc {(output.argmax(1) == y_test).float().mean().item():.3f}")
    print(f"final_loss {nn.functional.cross_entropy(output, y_test).item():.4f}")
