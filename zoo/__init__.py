"""Training programs that work, and programs that do not, to measure the rules by."""
