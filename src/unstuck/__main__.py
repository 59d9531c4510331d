"""`python -m unstuck` is the same as `unstuck`."""

from unstuck.cli import main

main()
