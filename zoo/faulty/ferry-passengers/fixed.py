# Guess the ticket class of a ferry passenger (foot, bicycle, car, lorry, season) from the booking form.
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

torch.manual_seed(77)

n_harbours, n_classes = 12, 5
effect_from = torch.randn(n_harbours, n_classes)
effect_to = torch.randn(n_harbours, n_classes)
effect_num = torch.randn(4, n_classes)


def bookings(n):
    origin = torch.randint(0, n_harbours, (n,))
    target = torch.randint(0, n_harbours, (n,))
    numbers = torch.randn(n, 4)  # days ahead, party size, price paid, hour of day (all standardised)
    utility = effect_from[origin] * effect_to[target] + torch.tanh(numbers) @ effect_num
    gumbel = -torch.log(-torch.log(torch.rand(n, n_classes).clamp(1e-6, 1 - 1e-6)))
    return origin, target, numbers, (2 * utility + gumbel).argmax(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.origin = nn.Embedding(n_harbours, 8)
        self.target = nn.Embedding(n_harbours, 8)
        self.fc1 = nn.Linear(20, 96)
        self.dropout = nn.Dropout(0.1)
        self.fc2 = nn.Linear(96, n_classes)

    def forward(self, origin, target, numbers):
        x = torch.cat([self.origin(origin), self.target(target), numbers], dim=1)
        x = F.relu(self.fc1(x))
        x = self.dropout(x)
        return F.log_softmax(self.fc2(x), dim=1)


def train(model, optimizer, epoch, log_interval=40):
    model.train()
    for batch_idx in range(80):
        origin, target, numbers, label = bookings(64)
        optimizer.zero_grad()
        output = model(origin, target, numbers)
        loss = F.nll_loss(output, label)
        loss.backward()
        optimizer.step()
        if batch_idx % log_interval == 0:
            print(f"Train Epoch: {epoch} [{batch_idx}]\tLoss: {loss.item():.6f}")


def test(model):
    model.eval()
    with torch.no_grad():
        origin, target, numbers, label = bookings(3000)
        output = model(origin, target, numbers)
        return F.cross_entropy(output, label).item(), (output.argmax(1) == label).float().mean().item()


model = Net()
optimizer = optim.Adam(model.parameters(), lr=0.003)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
for epoch in range(1, 6):
    train(model, optimizer, epoch)
    scheduler.step()
test_loss, accuracy = test(model)
print(f"accuracy {accuracy:.3f}")
print(f"final_loss {test_loss:.4f}")
