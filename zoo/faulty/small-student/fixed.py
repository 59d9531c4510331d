"""Teach a small network the soft answers of a larger one."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(31)

n_in, n_classes = 12, 5
temperature = 2.0
prior = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])

teacher = nn.Sequential(nn.Linear(n_in, 64), nn.Tanh(), nn.Linear(64, n_classes))
nn.init.normal_(teacher[0].weight, std=0.5)
nn.init.normal_(teacher[2].weight, std=0.4)
teacher[2].bias.data.copy_(prior)
teacher.requires_grad_(False).eval()

student = nn.Sequential(nn.Linear(n_in, 32), nn.ELU(), nn.Linear(32, 32), nn.ELU(), nn.Linear(32, n_classes))
for layer in (student[0], student[2]):
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, nesterov=True)

for step in range(500):
    x = torch.randn(48, n_in)
    answers = F.softmax(teacher(x) / temperature, dim=1)
    log_probs = F.log_softmax(student(x) / temperature, dim=1)
    loss = F.kl_div(log_probs, answers, reduction="batchmean") * temperature**2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

student.eval()
with torch.no_grad():
    x = torch.randn(2000, n_in)
    answers = teacher(x).log_softmax(1)
    print(
        f"final_loss {F.kl_div(student(x).log_softmax(1), answers, reduction='batchmean', log_target=True).item():.4f}"
    )
