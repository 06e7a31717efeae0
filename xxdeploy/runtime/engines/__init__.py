"""Inference engines behind one protocol, ``session.Session``."""
