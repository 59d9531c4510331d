"""Node classification on a stochastic block model with a two-layer GCN (after Kipf & Welling)."""

import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parameter import Parameter

np.random.seed(42)
torch.manual_seed(42)

HIDDEN, DROPOUT, LR, WEIGHT_DECAY, EPOCHS = 16, 0.5, 0.01, 5e-4, 200


def load_data(n=900, classes=5, words=200):
    labels = np.random.randint(classes, size=n)
    same = labels[:, None] == labels[None, :]
    adj = np.triu(np.random.rand(n, n) < np.where(same, 0.02, 0.002), 1)
    adj = (adj + adj.T).astype(np.float32)
    topic = np.random.rand(classes, words) < 0.1
    features = (np.random.rand(n, words) < np.where(topic[labels], 0.12, 0.05)).astype(np.float32)
    features /= features.sum(1, keepdims=True).clip(1)
    adj += np.eye(n, dtype=np.float32)
    d = 1 / np.sqrt(adj.sum(1))
    adj = torch.from_numpy(d[:, None] * adj * d[None, :]).to_sparse()
    order = torch.randperm(n)
    return adj, torch.from_numpy(features), torch.from_numpy(labels), order[:150], order[150:350], order[350:]


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.bias = Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        return torch.spmm(adj, support) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


adj, features, labels, idx_train, idx_val, idx_test = load_data()
model = GCN(features.shape[1], HIDDEN, 5, DROPOUT)
optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)


def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean().item()


def train(epoch):
    t = time.time()
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()
    model.eval()
    output = model(features, adj)
    loss_val = F.nll_loss(output[idx_val], labels[idx_val])
    if (epoch + 1) % 25 == 0:
        print(
            f"Epoch: {epoch + 1:04d} loss_train: {loss_train.item():.4f} loss_val: {loss_val.item():.4f} "
            f"acc_val: {accuracy(output[idx_val], labels[idx_val]):.4f} time: {time.time() - t:.4f}s"
        )


for epoch in range(EPOCHS):
    train(epoch)

model.eval()
with torch.no_grad():
    output = model(features, adj)
print(f"Test set accuracy: {accuracy(output[idx_test], labels[idx_test]):.4f}")
print(f"final_loss {F.nll_loss(output[idx_test], labels[idx_test]).item():.4f}")
