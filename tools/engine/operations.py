"""How much a network computes, and how much the machine could compute in that time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from config.base import Config, Cost
from data.preprocess import pad_to_batch, preprocess
from model.centermask2 import CenterMask2
from model.layers import STATISTICS, DeformConv2D
from model.networks import build_model
from tools.engine.graph_writer import static_graph, write_graph

PHOTO = 480, 640  # height and width in pixels of the picture that networks are compared with
PEAK_CHANNELS, PEAK_SIDE, PEAK_LAYERS, PEAK_RUNS = 256, 64, 4, 10


def cost_of(config: Config) -> Cost:
    """What the network of a config has and does for a photo, to one decimal; it runs once."""
    network = build_model(config)
    network.eval()
    parameters = sum(parameter.size for name, parameter in network.named_parameters() if not name.endswith(STATISTICS))
    photo = preprocess(np.zeros((*PHOTO, 3), np.uint8), config.data)
    operations = count_operations(network, *pad_to_batch([photo], config.data.size_divisor).shape[2:])
    return Cost(round(parameters / 1e6, 1), round(operations / 1e9, 1))


@paddle.no_grad()
def count_operations(network: nn.Layer, height: int, width: int) -> int:
    """Floating-point operations of all convolutions for one picture, two for a multiplication and its addition.

    What else a network does is left out: it takes memory bandwidth rather than arithmetic, but for fully connected
    layers, which count as convolutions. The network runs once, CenterMask2 with as many boxes as it may find.
    """
    counted = []

    def count(layer: nn.Layer, inputs: tuple[paddle.Tensor, ...], output: paddle.Tensor) -> None:
        weights = int(np.prod(layer.weight.shape[1:]))  # for each number that goes out of a convolution
        if isinstance(layer, nn.Linear):
            counted.append(2 * output.size * layer.weight.shape[0])
        elif isinstance(layer, nn.Conv2DTranspose):  # or that comes in
            counted.append(2 * inputs[0].size * weights)
        else:
            counted.append(2 * output.size * weights)

    kinds = nn.Conv2D, DeformConv2D, nn.Conv2DTranspose, nn.Linear
    hooks = [layer.register_forward_post_hook(count) for layer in network.sublayers() if isinstance(layer, kinds)]
    network(paddle.zeros([1, 3, height, width]))
    if isinstance(network, CenterMask2):
        most, side = network.config.nms.max_per_img, network.config.roi.size
        features = paddle.zeros([most, network.config.neck.out_channels, side, side])
        network.roi_head(features, paddle.zeros([most], "int64"))
    for hook in hooks:
        hook.remove()
    return sum(counted)


def measured_peak(precision: str) -> float:
    """Floating-point operations a second of the static engine on a CPU where nothing is in its way.

    That is the fastest of PEAK_RUNS runs of PEAK_LAYERS 3x3 convolutions in a row, PEAK_CHANNELS channels at PEAK_SIDE
    x PEAK_SIDE.
    """
    layers = nn.Sequential(*(nn.Conv2D(PEAK_CHANNELS, PEAK_CHANNELS, 3, padding=1) for _ in range(PEAK_LAYERS)))
    shape = [1, PEAK_CHANNELS, PEAK_SIDE, PEAK_SIDE]
    picture = np.zeros(shape, np.float32)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak"
        write_graph(layers, [InputSpec(shape, "float32")], path, portable=False)
        run = static_graph(path, precision)
        for _ in range(PEAK_RUNS):
            start = time.perf_counter()
            run([picture])
            seconds.append(time.perf_counter() - start)
    return PEAK_LAYERS * 2 * 9 * PEAK_CHANNELS**2 * PEAK_SIDE**2 / min(seconds)
