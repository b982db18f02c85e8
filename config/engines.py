"""What can run a network, and in which arithmetic."""

# The precisions of each engine, its default first; bf16 is for CPUs, fp16 for GPUs. A network in int8 is made with the
# help of pictures, by tools/quantize_onnx.py.
ENGINES = {
    "dynamic": ("fp32",),
    "static": ("fp32", "bf16", "fp16"),
    "onnx": ("fp32",),
    "openvino": ("fp32", "bf16"),
}
PRECISIONS = ("fp32", "bf16", "fp16", "int8")

# What runs a network fastest on a CPU, the best first; and one with deformable convolutions, unless these are in
# groups, for which OpenVINO takes seven times as long as ONNX Runtime.
FASTEST = ("onnx", "openvino", "static")
FASTEST_DEFORMABLE = ("openvino", "onnx", "static")

# Packages beside Paddle that an engine needs; each engine here is an extra of the same name in pyproject.toml.
PACKAGES = {"onnx": ("onnxruntime", "paddle2onnx"), "openvino": ("openvino", "paddle2onnx")}
