"""The character-level language model: an MLP that learns to spell the words of a list (names, by default).

It imports nothing of the other rooms, so that it is an ordinary PyTorch program to them.
"""
