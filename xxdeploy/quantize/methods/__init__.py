"""Accuracy methods: equalization, bias correction, adaptive rounding."""
