"""Build, load and convert Keras models. The only home of tensorflow, keras and tf2onnx."""
