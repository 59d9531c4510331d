"""Neighbours: each imported only when it is used."""
