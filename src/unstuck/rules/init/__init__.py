"""Faults of the initial weights."""
