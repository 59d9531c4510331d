"""Faults of the gradients on their way back."""
