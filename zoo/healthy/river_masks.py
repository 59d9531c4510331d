"""Segment rivers on aerial pictures with a small U-Net; the loss is cross-entropy plus Dice."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(64)
SIZE = 32


def aerial(n):
    ys, xs = torch.meshgrid(torch.linspace(0, 1, SIZE), torch.linspace(0, 1, SIZE), indexing="ij")
    r = torch.rand(n, 6, 1, 1)
    course = (
        0.2 + 0.6 * r[:, 0] + 0.15 * torch.sin(6 * ys * (0.5 + r[:, 1]) + 6.3 * r[:, 2]) + 0.5 * (r[:, 3] - 0.5) * ys
    )
    width = 0.03 + 0.05 * r[:, 4]
    mask = ((xs - course).abs() < width).float()
    turn = torch.rand(n) < 0.5
    mask[turn] = mask[turn].transpose(1, 2)
    mask = mask.unsqueeze(1)
    fields = F.interpolate(torch.rand(n, 3, 5, 5), SIZE, mode="nearest") * 0.5 + 0.2
    water = torch.tensor([0.2, 0.35, 0.45]).view(1, 3, 1, 1) + 0.1 * torch.randn(n, 1, 1, 1)
    image = torch.where(mask.bool(), water, fields) + 0.07 * torch.randn(n, 3, SIZE, SIZE)
    return image, mask


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        return self.conv(torch.cat([x2, self.up(x1)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=1, base=8):
        super().__init__()
        self.inc = DoubleConv(n_channels, base)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(base, 2 * base))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(2 * base, 4 * base))
        self.up1 = Up(4 * base, 2 * base)
        self.up2 = Up(2 * base, base)
        self.outc = nn.Conv2d(base, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


def dice_loss(logits, target, eps=1.0):
    p = torch.sigmoid(logits)
    inter = (p * target).sum((1, 2, 3))
    return (1 - (2 * inter + eps) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + eps)).mean()


def loss_fn(logits, target):
    return F.binary_cross_entropy_with_logits(logits, target) + dice_loss(logits, target)


model = UNet()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, weight_decay=1e-8, momentum=0.9)
images, masks = aerial(480)
val_images, val_masks = aerial(120)

global_step = 0
for epoch in range(1, 5):
    model.train()
    for ix in torch.randperm(len(images)).split(12):
        pred = model(images[ix])
        loss = loss_fn(pred, masks[ix])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        global_step += 1
    model.eval()
    with torch.no_grad():
        pred = model(val_images)
        val_loss = loss_fn(pred, val_masks).item()
        score = 1 - dice_loss(pred, val_masks).item()
    print(f"epoch {epoch}  step {global_step}  train {loss.item():.3f}  val {val_loss:.3f}  dice {score:.3f}")

print(f"final_loss {val_loss:.4f}")
