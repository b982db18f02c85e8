"""The engines that run a network: their precisions, their order of speed and the packages they need."""

# Precisions of each engine, the default first. bf16 and int8 run on CPUs, fp16 on GPUs. For int8 tools/quantize.py
# writes a network beside the checkpoint, with sample pictures for calibration.
ENGINES = {
    "dynamic": ("fp32",),
    "static": ("fp32", "bf16", "fp16"),
    "onnx": ("fp32",),
    "openvino": ("fp32", "bf16", "int8"),
}
PRECISIONS = ("fp32", "bf16", "fp16", "int8")

# Engines for a CPU, the fastest first. The second list is for networks with deformable convolutions that are not
# grouped; with grouped ones OpenVINO takes seven times as long as ONNX Runtime.
FASTEST = ("onnx", "openvino", "static")
FASTEST_DEFORMABLE = ("openvino", "onnx", "static")

# Packages that an engine needs in addition to Paddle; pyproject.toml has an extra with the name of the engine.
PACKAGES = {"onnx": ("onnxruntime", "paddle2onnx"), "openvino": ("openvino", "paddle2onnx")}
