"""What runs a network: ONNX Runtime and its providers, TensorRT."""
