"""Writing and checking bundles."""
