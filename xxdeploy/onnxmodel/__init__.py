"""An ONNX model as a value, the graph inside it, and how it is read, written and run."""
