"""What quantization does to each layer."""
