"""Physics-informed network for the heat equation on a rod: Adam first, then L-BFGS."""

import numpy as np
import torch
import torch.nn as nn

torch.manual_seed(1234)
np.random.seed(1234)

ALPHA = 0.1


def exact(x, t):
    one = torch.exp(-ALPHA * np.pi**2 * t) * torch.sin(np.pi * x)
    three = 0.5 * torch.exp(-9 * ALPHA * np.pi**2 * t) * torch.sin(3 * np.pi * x)
    return one + three


class PINN(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.activation = nn.Tanh()
        self.linears = nn.ModuleList([nn.Linear(layers[i], layers[i + 1]) for i in range(len(layers) - 1)])
        for linear in self.linears:
            nn.init.xavier_normal_(linear.weight.data, gain=1.0)
            nn.init.zeros_(linear.bias.data)
        self.register_buffer("lb", torch.tensor([0.0, 0.0]))
        self.register_buffer("ub", torch.tensor([1.0, 1.0]))

    def forward(self, x, t):
        a = torch.cat([x, t], dim=1)
        a = 2.0 * (a - self.lb) / (self.ub - self.lb) - 1.0
        for linear in self.linears[:-1]:
            a = self.activation(linear(a))
        return self.linears[-1](a)

    def residual(self, x, t):
        x.requires_grad_(True)
        t.requires_grad_(True)
        u = self.forward(x, t)
        u_t = torch.autograd.grad(u.sum(), t, create_graph=True)[0]
        u_x = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        u_xx = torch.autograd.grad(u_x.sum(), x, create_graph=True)[0]
        return u_t - ALPHA * u_xx


n_f, n_b, n_i = 400, 60, 80
x_f, t_f = torch.rand(n_f, 1), torch.rand(n_f, 1)
x_i, t_i = torch.rand(n_i, 1), torch.zeros(n_i, 1)
x_b, t_b = torch.randint(0, 2, (n_b, 1)).float(), torch.rand(n_b, 1)
u_i = exact(x_i, t_i)

model = PINN([2, 32, 32, 32, 1])


def total_loss():
    loss_f = model.residual(x_f, t_f).pow(2).mean()
    loss_i = (model(x_i, t_i) - u_i).pow(2).mean()
    loss_b = model(x_b, t_b).pow(2).mean()
    return loss_f + 10 * loss_i + 10 * loss_b


adam = torch.optim.Adam(model.parameters(), lr=2e-3)
for it in range(300):
    adam.zero_grad()
    loss = total_loss()
    loss.backward()
    adam.step()
    if it % 50 == 0:
        print(f"Adam    it {it:4d}  loss {loss.item():.3e}")

lbfgs = torch.optim.LBFGS(
    model.parameters(), lr=1.0, max_iter=150, max_eval=180, history_size=50, line_search_fn="strong_wolfe"
)
count = 0


def closure():
    global count
    lbfgs.zero_grad()
    loss = total_loss()
    loss.backward()
    if count % 50 == 0:
        print(f"L-BFGS  it {count:4d}  loss {loss.item():.3e}")
    count += 1
    return loss


lbfgs.step(closure)

model.eval()
with torch.no_grad():
    xs, ts = torch.meshgrid(torch.linspace(0, 1, 60), torch.linspace(0, 1, 60), indexing="ij")
    xs, ts = xs.reshape(-1, 1), ts.reshape(-1, 1)
    truth, pred = exact(xs, ts), model(xs, ts)
    print(f"relative L2 error {(pred - truth).norm() / truth.norm():.3e}")
    print(f"final_loss {(pred - truth).pow(2).mean().item():.3e}")
