"""Ranges of activations from images."""
