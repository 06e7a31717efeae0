"""Measure the effect of quantization on each layer."""
