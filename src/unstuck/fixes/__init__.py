"""Remedies: one file each. They change parameters, never the trace."""
