"""Which engine runs a network: the one that is asked for, or the fastest that is installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import paddle

from config.base import Config
from config.engines import ENGINES, FASTEST, FASTEST_DEFORMABLE, PACKAGES, PRECISIONS
from config.errors import InputError
from tools.common.kinds import kind_of


def choose_engine(name: str, precision: str, device: str, *, deformable: bool) -> str:
    """Return the engine that is named, or the one that `auto` stands for.

    deformable: whether the network has deformable convolutions, none of them in groups. On a CPU `auto` is the fastest
    engine installed; on a GPU, where nothing has been measured, it is the dynamic graph if that has the precision.
    Raises InputError if the engine is not installed or cannot do what is asked.
    """
    on_gpu = device.startswith("gpu")
    if name not in ("auto", *ENGINES) or precision not in PRECISIONS:
        known = f"engine auto, {', '.join(ENGINES)} and precision {', '.join(PRECISIONS)}"
        raise InputError(f"engine {name}, precision {precision}: expected {known}")
    if on_gpu and precision in ("bf16", "int8"):
        raise InputError(f"precision {precision}: is for CPUs; use device cpu, or precision fp16 or fp32")
    if not on_gpu and precision == "fp16":
        raise InputError("precision fp16: is for GPUs; use precision bf16 or fp32")
    if name == "auto" and on_gpu:
        name = "dynamic" if precision == "fp32" else "static"
    elif name == "auto":
        name = _fastest(precision, deformable=deformable)
    if precision not in ENGINES[name]:
        able = " or ".join(engine for engine, precisions in ENGINES.items() if precision in precisions)
        raise InputError(f"precision {precision}: engine {name} computes in {ENGINES[name][0]}; use engine {able}")
    if precision == "bf16" and not has_bfloat16():
        raise InputError(
            "precision bf16: this processor has no arithmetic in bfloat16 (avx512_bf16 or amx_bf16), and would take "
            "several times as long as in float32; use precision fp32"
        )
    if precision == "bf16" and name == "static" and paddle.__version__.startswith("2."):
        raise InputError(
            "precision bf16: its results are wrong in Paddle 2 with engine static; install Paddle 3 or use "
            "precision fp32"
        )
    if on_gpu and name in PACKAGES:
        raise InputError(f"engine {name}: runs on CPUs only; use device cpu, or engine dynamic or static")
    if reason := unusable_reason(name):
        raise InputError(f"engine {name}: {reason}")
    return name


def has_bfloat16() -> bool:
    """Return whether the processor computes in bfloat16. With other kinds of AVX-512, engines would simulate it."""
    return paddle.base.core.supports_bfloat16_fast_performance()


def has_ungrouped_deformable(config: Config) -> bool:
    """Return whether a network has deformable convolutions, none of them in groups."""
    sections = [getattr(config, section) for section in kind_of(config).sections]
    return any(section.deform_version for section in sections) and config.backbone.groups == 1


def _fastest(precision: str, *, deformable: bool) -> str:
    names = FASTEST_DEFORMABLE if deformable else FASTEST
    able = [name for name in names if precision in ENGINES[name]]
    return next((name for name in able if not unusable_reason(name)), able[0])


def unusable_reason(name: str) -> str:
    """Return why an engine cannot be used with the installed packages, and what to do; empty if it can."""
    packages = PACKAGES.get(name, ())
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        return f"needs {' and '.join(missing)}; pip install '.[{name}]'"
    if packages and (reason := foreign_translator()):
        return f"{reason}; install Paddle 3, or use engine static"
    return ""


def foreign_translator() -> str:
    """Return why the installed paddle2onnx cannot be used with this Paddle; empty if it can."""
    translator = importlib.metadata.version("paddle2onnx")
    if paddle.__version__.startswith("2.") and translator.startswith("2."):
        return f"paddle2onnx {translator} is for Paddle 3"
    return ""
