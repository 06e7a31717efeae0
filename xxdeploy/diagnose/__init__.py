"""Find where and why a bundle differs from Keras."""
