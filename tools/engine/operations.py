"""Count the operations of a network, and measure how many the machine computes in a second."""

from __future__ import annotations

import time

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from config.base import Config, Cost
from data.files import temporary_folder
from data.preprocess import pad_to_batch, preprocess
from model.layers import STATISTICS, DeformConv2D
from tools.common.kinds import build_network, kind_of
from tools.engine.graph_writer import write_graph
from tools.engine.static_graph import load_static_graph

PHOTO = 480, 640  # height and width in pixels of the picture that networks are compared with
PEAK_CHANNELS, PEAK_SIDE, PEAK_LAYERS, PEAK_RUNS = 256, 64, 4, 10


def cost_of(config: Config) -> Cost:
    """Return the parameters of a config's network and its operations for a photo, to one decimal."""
    network = build_network(config)
    network.eval()
    parameters = sum(parameter.size for name, parameter in network.named_parameters() if not name.endswith(STATISTICS))
    photo = preprocess(np.zeros((*PHOTO, 3), np.uint8), config.data)
    operations = network_operations(network, config, *pad_to_batch([photo], config.data.size_divisor).shape[2:])
    return Cost(round(parameters / 1e6, 1), round(operations / 1e9, 1))


def network_operations(network: nn.Layer, config: Config, height: int, width: int) -> int:
    """Count the operations of a network for one picture, CenterMask2 with as many boxes as it may predict."""
    operations = count_operations(network, paddle.zeros([1, 3, height, width]))
    kind = kind_of(config)
    if second_stage := kind.second_stage(network):
        count = config.nms.max_per_img
        specs = kind.second_stage_inputs(config)
        operations += count_operations(
            second_stage, *(paddle.zeros([count, *spec.shape[1:]], spec.dtype) for spec in specs)
        )
    return operations


@paddle.no_grad()
def count_operations(layer: nn.Layer, *inputs: paddle.Tensor) -> int:
    """Count floating-point operations of all convolutions, two for a multiplication with its addition.

    Fully connected layers count as convolutions. All else is left out: it takes memory bandwidth rather than
    arithmetic. The layer runs once.
    """
    counted = []

    def count(layer: nn.Layer, inputs: tuple[paddle.Tensor, ...], output: paddle.Tensor) -> None:
        weights = int(np.prod(layer.weight.shape[1:]))  # multiplications per output value of a convolution
        if isinstance(layer, nn.Linear):
            counted.append(2 * output.size * layer.weight.shape[0])
        elif isinstance(layer, nn.Conv2DTranspose):  # ... or per input value
            counted.append(2 * inputs[0].size * weights)
        else:
            counted.append(2 * output.size * weights)

    kinds = nn.Conv2D, DeformConv2D, nn.Conv2DTranspose, nn.Linear
    hooks = [part.register_forward_post_hook(count) for part in layer.sublayers() if isinstance(part, kinds)]
    layer(*inputs)
    for hook in hooks:
        hook.remove()
    return sum(counted)


def measured_peak(precision: str) -> float:
    """Measure the most floating-point operations per second of the static engine on a CPU.

    The fastest of PEAK_RUNS runs of PEAK_LAYERS 3x3 convolutions, PEAK_CHANNELS channels at PEAK_SIDE x PEAK_SIDE.
    """
    layers = nn.Sequential(*(nn.Conv2D(PEAK_CHANNELS, PEAK_CHANNELS, 3, padding=1) for _ in range(PEAK_LAYERS)))
    shape = [1, PEAK_CHANNELS, PEAK_SIDE, PEAK_SIDE]
    picture = np.zeros(shape, np.float32)
    seconds = []
    with temporary_folder() as folder:
        path = folder / "peak"
        write_graph(layers, [InputSpec(shape, "float32")], path, portable=False)
        run = load_static_graph(path, precision)
        for _ in range(PEAK_RUNS):
            start = time.perf_counter()
            run([picture])
            seconds.append(time.perf_counter() - start)
    return PEAK_LAYERS * 2 * 9 * PEAK_CHANNELS**2 * PEAK_SIDE**2 / min(seconds)
