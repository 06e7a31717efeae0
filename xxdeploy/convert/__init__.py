"""Keras to ONNX. The only home of tensorflow, keras and tf2onnx."""
