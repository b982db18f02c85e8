"""The recorded networks of CenterMask2, and the names that recordings give to the parts of its backbones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import paddle
from paddle import nn

from config import load_config
from convert.conversion import fill, network_shapes
from convert.names import CENTERMASK2
from tests.support.parity import PARITY, foreign_checkpoint
from tools.common.checkpoint import load_weights
from tools.common.kinds import build_network

MODELS = {  # by the number of the config
    30: "cm2_v39",
    31: "cm2_lite_v39",
    34: "cm2_lite_v19",
    35: "cm2_lite_v19_slim",
    36: "cm2_lite_v19_slim_dw",
    37: "cm2_lite_mv2",
    38: "cm2_v39_dcn",
}


@lru_cache(maxsize=1)
def recorded_network(number: int) -> nn.Layer:
    """Return the network of a config with the weights that were recorded."""
    config = load_config(number)
    weights, _ = fill(network_shapes(config), changed_checkpoint(MODELS[number]), [CENTERMASK2])
    network = build_network(config)
    load_weights(network, weights, path=MODELS[number], config_name=config.name)
    return network


def changed_checkpoint(model: str) -> dict[str, np.ndarray]:
    """Return the checkpoint of CenterMask2 with the changes that were made before it was recorded."""
    weights = foreign_checkpoint(model)
    changes = json.loads((PARITY / f"{model}_overrides.json").read_text())
    for name, value in changes["mul"].items():
        weights[name] = weights[name] * np.float32(value)
    for name, value in changes["set"].items():
        weights[name] = np.float32(value)
    for name, value in changes["add"].items():
        weights[name] = weights[name] + np.float32(value)
    return weights


@paddle.no_grad()
def backbone_stages(backbone: nn.Layer, images: paddle.Tensor) -> tuple[list[paddle.Tensor], dict[str, paddle.Tensor]]:
    """Return the maps of a backbone, and what its parts compute, by the names of the recordings."""
    stages: dict[str, paddle.Tensor] = {}
    hooks = []
    for name, layer, wants_input in recorded_parts(backbone):

        def keep(layer, inputs, output, name=name, wants_input=wants_input):
            stages[name] = inputs[0] if wants_input else output

        hooks.append(layer.register_forward_post_hook(keep))
    maps = backbone(images)
    for hook in hooks:
        hook.remove()
    return maps, stages


def recorded_parts(backbone: nn.Layer) -> Iterator[tuple[str, nn.Layer, bool]]:
    """Yield names of recordings, the layer that each is of, and whether it is the layer's input."""
    is_mobilenet = type(backbone).__name__ == "MobileNetV2"
    yield "stem", backbone.stem if is_mobilenet else backbone.stem[-1], False
    for index, stage in enumerate(backbone.stages, start=2):
        yield f"{'res' if is_mobilenet else 'stage'}{index}", stage[-1], False
    parts = _mobilenet_parts(backbone) if is_mobilenet else _vovnet_parts(backbone)
    for name, layer in parts:
        yield name, layer, name.endswith("pooled_input")


def _vovnet_parts(backbone: nn.Layer) -> Iterator[tuple[str, nn.Layer]]:
    block = backbone.stages[1][0]
    yield "OSA3_1/pooled_input", block
    if block.reduction:
        yield "OSA3_1/reduction", block.reduction
    for index, layer in enumerate(block.chain):
        name = f"OSA3_1/layer{index}"
        yield name, layer
        if hasattr(layer, "depthwise"):
            yield f"{name}/dw_conv3x3", layer.depthwise
            yield f"{name}/pw_conv1x1", layer.pointwise.conv
        elif hasattr(layer.conv, "offset"):
            yield f"{name}/conv_offset", layer.conv.offset
    yield "OSA3_1/concat", block.concat
    yield "OSA3_1/ese", block.ese
    for block in backbone.stages[2][1:]:
        yield "OSA4_2", block
        yield "OSA4_2/ese", block.ese


def _mobilenet_parts(backbone: nn.Layer) -> Iterator[tuple[str, nn.Layer]]:
    blocks = [block for stage in backbone.stages for block in stage]
    for number, block in enumerate(blocks, start=1):
        yield f"features.{number}", block
        layers = [layer for layer in (block.expand, block.depthwise, block.project) if layer]
        for index, layer in enumerate(layers):
            yield f"features.{number}/conv.{3 * index}", layer.conv
            yield f"features.{number}/conv.{3 * index + 1}", layer.norm
            yield f"features.{number}/conv.{3 * index + 2}", layer
