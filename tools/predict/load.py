"""Pictures in, instances out: what the demo, the evaluation and users' own programs call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import paddle

from config import load_config, registry
from config.base import Config
from config.errors import InputError
from data.class_lists import ClassList, read_class_list
from model.centermask2 import detect
from model.decoding import Raw
from model.device import select_device
from model.head.box_decode import Detected
from model.networks import build_model
from tools.common.checkpoint import Checkpoint, load_checkpoint, load_weights
from tools.engine.compiled import choose_engine, compiled_engine, dynamic_engine
from tools.predict.predictor import EnginePredictor, Prepared


class Predictor(EnginePredictor):
    """A network with its weights, and the steps before and after it.

        predictor = Predictor(config=2, weights="weights/solov2_light_r50_vd_fpn_dcn_512_3x.pdparams")
        instances = predictor(image)

    config: number or name of a config, or a Config. overrides: assignments as after `-o`.
    weights: a checkpoint of ours; None takes the one that the config's `section` names; `untrained` (a seed) takes
    random weights.
    score: instances below it are left out; None takes the config's.
    engine, precision: what runs the network and in which arithmetic; see tools.engine.compiled.
    Raises InputError where something does not exist or does not fit.
    """

    def __init__(
        self,
        config: int | str | Config,
        weights: str | Path | None = None,
        *,
        overrides: Iterable[str] = (),
        untrained: int | None = None,
        score: float | None = None,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "fp32",
        section: str = "test_cfg",
    ) -> None:
        device = select_device(device)
        config = load_config(config, overrides)
        engine = choose_engine(engine, precision, device, deformable=config.deformable_ungrouped)
        source = network_source(config, weights, overrides=overrides, untrained=untrained, section=section)
        config = source.config
        if engine == "dynamic":
            run = dynamic_engine(source.build())
        else:
            run = compiled_engine(engine, precision, source.build, config, source.weights, *source.facts)
        score = config.test_cfg.score if score is None else score
        super().__init__(config, source.classes, run, score=score, engine_name=engine, device=device)

    @classmethod
    def around(cls, network: paddle.nn.Layer, config: Config, classes: ClassList, *, score: float) -> Predictor:
        """The same steps for a network that is there already, on the device that is selected already."""
        predictor = cls.__new__(cls)
        engine, device = dynamic_engine(network), paddle.get_device()
        EnginePredictor.__init__(predictor, config, classes, engine, score=score, engine_name="dynamic", device=device)
        return predictor

    def run(self, batch: Sequence[Prepared]) -> Raw | list[Detected]:
        raw = super().run(batch)
        if self.engine.rois is None:
            return raw
        return detect(raw, [prepared.input.shape[:2] for prepared in batch], self.config, self.engine.rois)


class NetworkSource(NamedTuple):
    """Where a network comes from: a checkpoint, or a seed."""

    config: Config  # as the weights need it
    classes: ClassList
    build: Callable[[], paddle.nn.Layer]  # makes it, in evaluation mode; raises InputError where weights do not fit
    weights: Mapping[str, np.ndarray]  # of the checkpoint
    facts: tuple  # what the network depends on beside config and weights


def network_source(
    config: Config,
    weights: str | Path | None,
    *,
    overrides: Iterable[str] = (),
    untrained: int | None = None,
    section: str = "test_cfg",
) -> NetworkSource:
    """The network that the arguments of a `Predictor` mean. Raises InputError as that does."""
    if untrained is not None:
        classes = read_class_list(config.classes_file)
        config = config.replace(num_classes=len(classes))
        build = partial(untrained_network, config, untrained)
        return NetworkSource(config, classes, build, {}, ("untrained", untrained))
    path = Path(weights or _default_weights(config, section))
    checkpoint = load_checkpoint(path)
    if not checkpoint.classes:
        raise InputError(f"{path} holds a backbone to start training from; give a whole network's checkpoint")
    config = load_config(checkpoint.adapt(config), overrides)
    build = partial(_trained_network, config, checkpoint, path)
    return NetworkSource(config, checkpoint.classes, build, checkpoint.weights, ())


def _trained_network(config: Config, checkpoint: Checkpoint, path: Path) -> paddle.nn.Layer:
    network = build_model(config)
    made_for = _name_with_number(checkpoint.config_name)
    load_weights(network, checkpoint.weights, path=path, config_name=config.name, made_for=made_for)
    network.eval()
    return network


def _name_with_number(config_name: str) -> str:
    numbers = {kind.name: number for number, kind in registry().items()}
    return f"{numbers[config_name]} ({config_name})" if config_name in numbers else config_name


def _default_weights(config: Config, section: str) -> Path:
    path = config.model_path(section)
    if not path.exists():
        ways = [f"{one.command(config.number)} ({one.where})" for one in config.published]
        remedy = f"convert a published one first: {' or '.join(ways)}"
        if not ways:
            remedy = f"python train.py --config={config.number} makes one, --weights FILE takes another"
        raise InputError(f"{path}: no such checkpoint; {remedy}")
    return path


def untrained_network(config: Config, seed: int) -> paddle.nn.Layer:
    """Random weights under which some cells pass the score threshold, so that every step has something to do."""
    paddle.seed(seed)
    network = build_model(config)
    network.head.cate_pred.weight.set_value(network.head.cate_pred.weight * 2.0)
    if config.head.finds_boxes:  # boxes of some strides, and masks that may be right and end somewhere
        rois = network.roi_head
        for layer, bias in ((network.head.box_pred, 3.0), (rois.iou_head.pred, 1.0), (rois.mask_head.pred, 0.1)):
            layer.bias.set_value(paddle.full_like(layer.bias, bias))
    # SOLO's masks begin far below the threshold; the product of two probabilities needs more than a half of each.
    for name, bias in (("mask_preds", 0.0), ("x_preds", 1.0), ("y_preds", 1.0)):
        for layer in getattr(network.head, name, ()):
            layer.bias.set_value(paddle.full_like(layer.bias, bias))
    network.eval()
    return network
