"""Knowledge distillation: a wide teacher CNN, then a thin student with soft targets (T = 4, alpha = 0.7)."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(3)
SIZE, CLASSES = 16, 10
g = torch.linspace(-1, 1, SIZE)
YY, XX = torch.meshgrid(g, g, indexing="ij")
spokes = torch.tensor([3.0, 4.0, 5.0, 6.0, 8.0]).repeat(2)
hollow = torch.tensor([0.0] * 5 + [1.0] * 5)


def coins(n):
    """Struck coins: the class is the number of spokes, and whether the middle is hollow."""
    y = torch.randint(0, CLASSES, (n,))
    cx, cy = 0.2 * torch.randn(2, n, 1, 1)
    r = ((XX - cx) ** 2 + (YY - cy) ** 2).sqrt()
    a = torch.atan2(YY - cy, XX - cx)
    wave = torch.cos(spokes[y].view(-1, 1, 1) * a + 6.28 * torch.rand(n, 1, 1))
    img = (r < 0.9) * (0.5 + 0.5 * wave) * (1 - hollow[y].view(-1, 1, 1) * (r < 0.4).float())
    return (img + 0.35 * torch.randn(n, SIZE, SIZE)).unsqueeze(1) - 0.4, y


class ConvNet(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width * 2, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width * 2)
        self.fc1 = nn.Linear(width * 2 * 16, hidden)
        self.fc2 = nn.Linear(hidden, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def loss_fn_kd(outputs, labels, teacher_outputs, alpha=0.7, T=4.0):
    soft = F.kl_div(F.log_softmax(outputs / T, dim=1), F.softmax(teacher_outputs / T, dim=1), reduction="batchmean")
    return soft * (alpha * T * T) + F.cross_entropy(outputs, labels) * (1.0 - alpha)


def evaluate(model, data):
    model.eval()
    with torch.no_grad():
        x, y = data
        logits = model(x)
        return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def train_teacher(steps=180):
    teacher = ConvNet(24, 96)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)
    for step in range(steps):
        x, y = coins(64)
        loss = F.cross_entropy(teacher(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 60 == 0:
            print(f"teacher step {step}: {loss.item():.4f}")
    return teacher.eval()


def train_student(teacher, steps=300):
    student = ConvNet(8, 32)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[200, 260], gamma=0.2)
    for step in range(steps):
        x, y = coins(64)
        with torch.no_grad():
            teacher_logits = teacher(x)
        loss = loss_fn_kd(student(x), y, teacher_logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 60 == 0:
            print(f"student step {step}: {loss.item():.4f}")
    return student


if __name__ == "__main__":
    test = coins(1000)
    teacher = train_teacher()
    print("teacher: loss %.4f accuracy %.3f" % evaluate(teacher, test))  # noqa: UP031
    student = train_student(teacher)
    loss, acc = evaluate(student, test)
    print(f"student: accuracy {acc:.3f}")
    print(f"final_loss {loss:.4f}")
