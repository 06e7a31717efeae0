"""Commands about this installation of xxdeploy: what it ships and what it keeps on the disk."""
