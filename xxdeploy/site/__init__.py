"""A page for a bundle: the files of a static site, and a server for this machine."""
