"""Image folders, labels, and seeded sampling."""
