"""Inference engines, each a ``session.Session``."""
