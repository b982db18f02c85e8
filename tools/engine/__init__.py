"""What runs a network: Paddle's dynamic graph, or a compiled graph in Paddle, ONNX Runtime or OpenVINO."""
