"""Accuracy methods: one interface (`method.py`), one table (`registry.py`), and the arithmetic of each method."""
