"""Parity, accuracy and statistics: measure, then judge."""
