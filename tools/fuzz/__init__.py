"""Fuzzing of everything that reads a file: `python -m tools.fuzz --cases 100000`."""
