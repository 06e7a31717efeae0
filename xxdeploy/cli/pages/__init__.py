"""Commands that open pages: the report of a bundle, and the bundle in a browser."""
