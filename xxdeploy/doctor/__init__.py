"""Check which parts of xxdeploy work on this machine."""
