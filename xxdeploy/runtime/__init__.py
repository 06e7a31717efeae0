"""The ring that runs on the device: numpy, pillow and onnxruntime, nothing else."""
