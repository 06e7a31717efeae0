"""INT8 as TensorRT reads it."""
