"""Faults of attention and of sequences."""
