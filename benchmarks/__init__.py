"""What unstuck costs and reaches, measured; each module prints a markdown table."""
