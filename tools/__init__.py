"""Commands for those who work on unstuck; none is part of the package."""
