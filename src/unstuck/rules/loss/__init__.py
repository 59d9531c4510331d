"""Faults of the loss and of the output layer that feeds it."""
