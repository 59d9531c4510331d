"""Faults of activation functions: saturation and death."""
