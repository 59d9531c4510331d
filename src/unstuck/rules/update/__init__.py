"""Faults of the updates an optimizer makes."""
