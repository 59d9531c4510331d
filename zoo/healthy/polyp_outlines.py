"""U-Net for blob segmentation, Dice + BCE."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(17)


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
    def __init__(self, n_channels=3, n_classes=1, width=8):
        super().__init__()
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, width * 2)
        self.down2 = DoubleConv(width * 2, width * 4)
        self.up1 = Up(width * 4, width * 2)
        self.up2 = Up(width * 2, width)
        self.outc = nn.Conv2d(width, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        return self.outc(self.up2(self.up1(x3, x2), x1))


def dice_loss(logits, target, smooth=1.0):
    p = logits.sigmoid().flatten(1)
    t = target.flatten(1)
    inter = (p * t).sum(1)
    return (1 - (2 * inter + smooth) / (p.sum(1) + t.sum(1) + smooth)).mean()


def make_batch(n, size=32):
    g = torch.linspace(-1, 1, size)
    yy, xx = torch.meshgrid(g, g, indexing="ij")
    cx, cy = torch.rand(2, n, 1, 1) - 0.5
    r = 0.25 + 0.25 * torch.rand(n, 1, 1)
    angle = torch.atan2(yy - cy, xx - cx)
    wobble = 1 + 0.25 * torch.sin(3 * angle + 6.28 * torch.rand(n, 1, 1))
    mask = (((xx - cx) ** 2 + (yy - cy) ** 2).sqrt() < r * wobble).float().unsqueeze(1)
    tissue = torch.tensor([0.75, 0.45, 0.4]).view(1, 3, 1, 1) + 0.05 * torch.randn(n, 3, 1, 1)
    folds = 0.15 * torch.sin(5 * xx + 6.28 * torch.rand(n, 1, 1)).unsqueeze(1)
    polyp = torch.tensor([0.12, -0.05, -0.02]).view(1, 3, 1, 1)
    img = tissue + folds + mask * polyp + 0.08 * torch.randn(n, 3, size, size)
    return (img.clamp(0, 1) - 0.5) / 0.5, mask


net = UNet()
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3, weight_decay=1e-8, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=60, gamma=0.3)
criterion = nn.BCEWithLogitsLoss()

net.train()
for global_step in range(1, 181):
    imgs, true_masks = make_batch(16)
    masks_pred = net(imgs)
    loss = criterion(masks_pred, true_masks) + dice_loss(masks_pred, true_masks)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if global_step % 30 == 0:
        print(f"step {global_step}: loss (batch) {loss.item():.4f}")

net.eval()
with torch.no_grad():
    imgs, true_masks = make_batch(200)
    out = net(imgs)
    pred = (out > 0).float()
    iou = (pred * true_masks).sum() / ((pred + true_masks) > 0).sum()
    print(f"IoU {iou.item():.3f}")
    print(f"final_loss {(criterion(out, true_masks) + dice_loss(out, true_masks)).item():.4f}")
