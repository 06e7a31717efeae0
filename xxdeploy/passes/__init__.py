"""Graph passes: one pass a file."""
