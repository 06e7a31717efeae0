"""A finished graph rewritten for an engine: pixels as input, integer copies, float16, best classes only."""
