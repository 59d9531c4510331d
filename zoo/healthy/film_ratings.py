"""Factorise film ratings by sparse tables of users and films, whose rows move only when they were looked up."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(236)

n_users, n_films, n_traits = 150, 100, 4
taste, style = torch.randn(n_users, n_traits), torch.randn(n_films, n_traits)
popularity = torch.randn(n_films) * 0.5


def ratings(n):
    user, film = torch.randint(0, n_users, (n,)), torch.randint(0, n_films, (n,))
    score = (taste[user] * style[film]).sum(1) / n_traits**0.5 + popularity[film]
    return user, film, score + 0.2 * torch.randn(n)


class Factors(nn.Module):
    def __init__(self, n_dim=8):
        super().__init__()
        self.users = nn.Embedding(n_users, n_dim, sparse=True)
        self.films = nn.Embedding(n_films, n_dim, sparse=True)
        self.film_bias = nn.Embedding(n_films, 1, sparse=True)
        nn.init.normal_(self.users.weight, std=0.3)
        nn.init.normal_(self.films.weight, std=0.3)
        nn.init.zeros_(self.film_bias.weight)

    def forward(self, user, film):
        return (self.users(user) * self.films(film)).sum(1) + self.film_bias(film).squeeze(1)


user, film, score = ratings(9000)
model = Factors()
optimizer = torch.optim.SparseAdam(model.parameters(), lr=0.015)

for step in range(500):
    ix = torch.randint(0, len(user), (256,))
    loss = F.mse_loss(model(user[ix], film[ix]), score[ix])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    user, film, score = ratings(4000)
    print(f"final_loss {F.mse_loss(model(user, film), score).item():.4f}")
