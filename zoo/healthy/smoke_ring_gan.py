"""A GAN on short smoke-ring profiles (1-D curves of 32 points), following the DCGAN recipe."""

import torch
import torch.nn as nn

manual_seed = 999
torch.manual_seed(manual_seed)

nz, ngf, ndf = 16, 32, 32
batch_size, num_iters = 64, 400
lr, beta1 = 2e-4, 0.5
real_label, fake_label = 1.0, 0.0


def real_batch(n):
    t = torch.linspace(-1, 1, 32)
    centre = 0.25 * torch.randn(n, 1)
    radius = 0.35 + 0.1 * torch.rand(n, 1)
    left = torch.exp(-(((t - centre + radius) / 0.12) ** 2))
    right = torch.exp(-(((t - centre - radius) / 0.12) ** 2))
    height = 0.7 + 0.3 * torch.rand(n, 1)
    return (2 * height * torch.maximum(left, right) - 1).unsqueeze(1)


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
            nn.ConvTranspose1d(nz, ngf * 4, 4, 1, 0, bias=False),
            nn.BatchNorm1d(ngf * 4),
            nn.ReLU(True),
            nn.ConvTranspose1d(ngf * 4, ngf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm1d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose1d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm1d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose1d(ngf, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.main(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(1, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv1d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm1d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv1d(ndf * 2, ndf * 4, 4, 2, 1, bias=False),
            nn.BatchNorm1d(ndf * 4),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv1d(ndf * 4, 1, 4, 1, 0, bias=False),
        )

    def forward(self, x):
        return self.main(x).view(-1)


netG, netD = Generator(), Discriminator()
netG.apply(weights_init)
netD.apply(weights_init)

criterion = nn.BCEWithLogitsLoss()
optimizerD = torch.optim.Adam(netD.parameters(), lr=lr, betas=(beta1, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=lr * 3, betas=(beta1, 0.999))

for i in range(num_iters):
    # (1) maximise log(D(x)) + log(1 - D(G(z)))
    netD.zero_grad()
    label = torch.full((batch_size,), real_label)
    output = netD(real_batch(batch_size))
    errD_real = criterion(output, label)
    errD_real.backward()
    D_x = output.sigmoid().mean().item()

    fake = netG(torch.randn(batch_size, nz, 1))
    label.fill_(fake_label)
    output = netD(fake.detach())
    errD_fake = criterion(output, label)
    errD_fake.backward()
    optimizerD.step()

    # (2) maximise log(D(G(z)))
    netG.zero_grad()
    label.fill_(real_label)
    output = netD(fake)
    errG = criterion(output, label)
    errG.backward()
    optimizerG.step()

    if i % 50 == 0:
        d = (errD_real + errD_fake).item()
        print(f"[{i}/{num_iters}] Loss_D: {d:.4f} Loss_G: {errG.item():.4f} D(x): {D_x:.4f}")


def energy_distance(a, b):
    a, b = a.flatten(1), b.flatten(1)
    return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()


netG.eval()
with torch.no_grad():
    samples, held_out = netG(torch.randn(1000, nz, 1)), real_batch(1000)
    print(f"energy distance of noise {energy_distance(torch.tanh(torch.randn(1000, 1, 32)), held_out):.4f}")
    print(f"energy distance of the mean {energy_distance(held_out.mean(0).expand(1000, 1, 32), held_out):.4f}")
    print(f"final_loss {energy_distance(samples, held_out):.4f}")
