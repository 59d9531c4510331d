"""Faults around normalisation layers."""
