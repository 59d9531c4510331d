"""Rules about the training loop: the order of its calls, and what they reach."""
