"""Read the digits of a seven-segment display from small, noisy pictures."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

SEGMENTS = ["abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg"]
STROKES = {
    "a": (slice(0, 1), slice(0, 6)),
    "b": (slice(0, 6), slice(5, 6)),
    "c": (slice(5, 11), slice(5, 6)),
    "d": (slice(10, 11), slice(0, 6)),
    "e": (slice(5, 11), slice(0, 1)),
    "f": (slice(0, 6), slice(0, 1)),
    "g": (slice(5, 6), slice(0, 6)),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1)
        self.conv2 = nn.Conv2d(16, 32, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(1152, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.conv1(x)
        x = F.relu(x)
        x = self.conv2(x)
        x = F.relu(x)
        x = F.max_pool2d(x, 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = self.fc1(x)
        x = F.relu(x)
        x = self.dropout2(x)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


def make_dataset(n):
    images = torch.zeros(n, 1, 16, 16)
    labels = torch.randint(0, 10, (n,))
    rows, cols = torch.randint(0, 6, (n,)).tolist(), torch.randint(0, 11, (n,)).tolist()
    for i, label in enumerate(labels.tolist()):
        window = images[i, 0, rows[i] : rows[i] + 11, cols[i] : cols[i] + 6]
        for name in SEGMENTS[label]:
            window[STROKES[name]] = 1.0
    images = images * (0.5 + 0.5 * torch.rand(n, 1, 1, 1)) + 0.25 * torch.rand_like(images)
    return TensorDataset((images - 0.2) / 0.3, labels)


def train(args, model, train_loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            seen, total = batch_idx * len(data), len(train_loader.dataset)
            print(f"Train Epoch: {epoch} [{seen}/{total}]\tLoss: {loss.item():.6f}")


def test(model, test_loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    test_loss /= len(test_loader.dataset)
    print(f"\nTest set: Average loss: {test_loss:.4f}, Accuracy: {correct}/{len(test_loader.dataset)}\n")
    return test_loss


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--test-batch-size", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--gamma", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train_loader = DataLoader(make_dataset(4000), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(make_dataset(1000), batch_size=args.test_batch_size)

    model = Net()
    optimizer = optim.Adadelta(model.parameters(), lr=args.lr)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)
    for epoch in range(1, args.epochs + 1):
        train(args, model, train_loader, optimizer, epoch)
        test_loss = test(model, test_loader)
        scheduler.step()
    print(f"final_loss {test_loss:.4f}")


if __name__ == "__main__":
    main()
