"""First names as examples: X holds the three characters so far, Y the one that follows; 0 is where a name ends."""

import random
from pathlib import Path

import torch

words = Path(__file__).parents[2].joinpath("src/unstuck/lm/data/names.txt").read_text(encoding="utf-8").split()
random.Random(42).shuffle(words)
code = {character: 1 + place for place, character in enumerate(sorted(set("".join(words))))}
symbols = 1 + len(code)

contexts, followers = [], []
for word in words[:4000]:
    context = [0, 0, 0]
    for follower in [*(code[character] for character in word), 0]:
        contexts.append(context)
        followers.append(follower)
        context = [*context[1:], follower]
X, Y = torch.tensor(contexts), torch.tensor(followers)
