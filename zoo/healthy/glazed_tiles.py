"""DCGAN on pictures of glazed tiles, 16 x 16."""

import torch
import torch.nn as nn
import torch.optim as optim

torch.manual_seed(999)

# Size of z latent vector, of feature maps in generator and discriminator
nz, ngf, ndf = 16, 16, 16
batch_size, num_iters, lr, beta1 = 64, 300, 2e-4 * 5, 0.5


def tiles(n):
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    u = torch.rand(n, 4, 1, 1)
    radius = 0.35 + 0.4 * u[:, 0]
    cx, cy = 0.5 * (u[:, 1] - 0.5), 0.5 * (u[:, 2] - 0.5)
    ring = torch.exp(-((((xs - cx) ** 2 + (ys - cy) ** 2).sqrt() - radius) ** 2) / 0.03)
    edge = (torch.maximum(xs.abs(), ys.abs()) > 0.9).float()
    return (2 * torch.maximum(ring, edge * (0.5 + 0.5 * u[:, 3])) - 1).unsqueeze(1)


# custom weights initialization called on netG and netD
def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            # input is Z, going into a convolution
            nn.ConvTranspose2d(nz, ngf * 4, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 4),
            nn.ReLU(True),
            # state size. (ngf*4) x 4 x 4
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            # state size. (ngf*2) x 8 x 8
            nn.ConvTranspose2d(ngf * 2, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, input):
        return self.main(input)


def energy_distance(a, b):
    a, b = a.flatten(1), b.flatten(1)
    na, nb = len(a), len(b)
    within = torch.cdist(a, a).sum() / (na * (na - 1)) + torch.cdist(b, b).sum() / (nb * (nb - 1))
    return (2 * torch.cdist(a, b).mean() - within).item()


def compare(netG):
    netG.eval()
    with torch.no_grad():
        value = energy_distance(netG(torch.randn(600, nz, 1, 1)), held_out)
    netG.train()
    return value


netG, netD = Generator(), Discriminator()
netG.apply(weights_init)
netD.apply(weights_init)

criterion = nn.BCELoss()
real_label, fake_label = 1.0, 0.0
optimizerD = optim.Adam(netD.parameters(), lr=lr / 2, betas=(beta1, 0.999))
optimizerG = optim.Adam(netG.parameters(), lr=lr, betas=(beta1, 0.999))
held_out = tiles(600)

print("Starting Training Loop...")
for i in range(num_iters):
    # (1) Update D network: maximize log(D(x)) + log(1 - D(G(z)))
    netD.zero_grad()
    real = tiles(batch_size)
    label = torch.full((batch_size,), real_label)
    output = netD(real).view(-1)
    errD_real = criterion(output, label)
    errD_real.backward()
    D_x = output.mean().item()

    fake = netG(torch.randn(batch_size, nz, 1, 1))
    label.fill_(fake_label)
    output = netD(fake.detach()).view(-1)
    errD_fake = criterion(output, label)
    errD_fake.backward()
    errD = errD_real + errD_fake
    optimizerD.step()

    # (2) Update G network: maximize log(D(G(z)))
    netG.zero_grad()
    label.fill_(real_label)
    output = netD(fake).view(-1)
    errG = criterion(output, label)
    errG.backward()
    D_G_z2 = output.mean().item()
    optimizerG.step()

    if i % 50 == 0:
        print(
            f"[{i}/{num_iters}]\tLoss_D: {errD.item():.4f}\tLoss_G: {errG.item():.4f}\tD(x): {D_x:.4f}"
            f"\tD(G(z)): {D_G_z2:.4f}\tdistance: {compare(netG):.3f}"
        )

print(f"final_loss {compare(netG):.4f}")
