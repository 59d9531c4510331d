"""Semi-supervised classification of papers in a citation graph, with two graph convolutions."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parameter import Parameter

np.random.seed(42)
torch.manual_seed(42)


def load_data(n=600, n_words=300, n_groups=5):
    labels = np.random.randint(0, n_groups, n)
    same = labels[:, None] == labels[None, :]
    edges = np.random.rand(n, n) < np.where(same, 0.02, 0.002)
    adj = np.triu(edges, 1).astype(np.float32)
    adj = adj + adj.T + np.eye(n, dtype=np.float32)
    d = 1.0 / np.sqrt(adj.sum(1))
    adj = d[:, None] * adj * d[None, :]

    word_rates = np.random.gamma(0.5, 0.05, (n_groups, n_words))
    features = (np.random.rand(n, n_words) < 0.5 * word_rates[labels] + 0.01).astype(np.float32)
    features /= np.maximum(features.sum(1, keepdims=True), 1)

    order = np.random.permutation(n)
    idx_train = np.concatenate([order[labels[order] == c][:15] for c in range(n_groups)])
    rest = np.setdiff1d(order, idx_train)
    return (
        torch.from_numpy(adj).to_sparse(),
        torch.from_numpy(features),
        torch.from_numpy(labels).long(),
        torch.from_numpy(idx_train),
        torch.from_numpy(rest[:150]),
        torch.from_numpy(rest[150:]),
    )


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(torch.empty(in_features, out_features))
        if bias:
            self.bias = Parameter(torch.empty(out_features))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        if self.bias is not None:
            self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        output = torch.spmm(adj, support)
        if self.bias is not None:
            return output + self.bias
        return output


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


def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean()


adj, features, labels, idx_train, idx_val, idx_test = load_data()
model = GCN(nfeat=features.shape[1], nhid=16, nclass=int(labels.max()) + 1, dropout=0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)

for epoch in range(300):
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()

    # Evaluate validation set performance separately, deactivates dropout during validation run.
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
        loss_val = F.nll_loss(output[idx_val], labels[idx_val])
    if epoch % 50 == 0:
        print(
            f"Epoch: {epoch + 1:04d} loss_train: {loss_train.item():.4f} "
            f"loss_val: {loss_val.item():.4f} acc_val: {accuracy(output[idx_val], labels[idx_val]):.4f}"
        )

model.eval()
with torch.no_grad():
    output = model(features, adj)
    print(f"test accuracy {accuracy(output[idx_test], labels[idx_test]):.4f}")
    print(f"final_loss {F.nll_loss(output[idx_test], labels[idx_test]).item():.4f}")
