"""Engines, which run networks: Paddle's dynamic graph, or compiled graphs in Paddle, ONNX Runtime or OpenVINO."""
