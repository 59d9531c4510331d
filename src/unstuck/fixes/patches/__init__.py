"""Patches: changes at the user's own line that remove a fault. One file each; none writes anything."""
