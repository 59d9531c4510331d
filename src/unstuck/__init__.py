"""unstuck finds out why a neural network won't train, points at the line, and gets it training."""

from unstuck._version import __version__

__all__ = ["__version__"]
