"""Rewrite a finished graph for an engine: uint8 input, integer copies, float16, the top classes only."""
