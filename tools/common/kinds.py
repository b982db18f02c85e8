"""One descriptor per kind of network: everything that depends on `head.kind` is reached through `kind_of(config)`.

A kind is a subclass of NetworkKind that `HEAD_KINDS` in config/networks.py names. Networks, plain decoders and targets
are imported where they are needed: exported networks run without Paddle, and prediction needs no targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Callable, Union

import numpy as np

from config.base import Config
from config.networks import BOX_STRIDES, HEAD_KINDS, HeadConfig
from model.decode import fast
from model.decode.decoded import Decoded
from model.decode.fast_masks import CellMasks, KernelMasks, LevelMasks, ProductMasks
from model.decode.window_masks import WindowMasks
from tools.common.output_sides import BOX_INSTANCE_OUTPUTS, INSTANCE_OUTPUTS, expand_levels
from tools.common.raw_values import check_raw_values

if TYPE_CHECKING:
    from paddle import Tensor, nn
    from paddle.static import InputSpec

    from data.box_targets import BoxTargets
    from data.grid_targets import GridTargets
    from data.samples import Sample
    from model.grid_network import GridNetwork
    from model.losses.boxes import BoxPictureTargets
    from model.losses.grid import PictureTargets

Size = tuple[int, int]  # height, width
# Arrays on a CPU, tensors on a GPU; of CenterMask2 what `CenterMask2Kind.complete` returns.
RawPredictions = Sequence[Any]
Targets = Union["GridTargets", "BoxTargets"]
# Outputs of `NetworkKind.second_stage`, given features of boxes and their classes.
SecondStage = Callable[["Tensor", np.ndarray], "tuple[Tensor, Tensor]"]


class NetworkKind(ABC):
    """Everything that programs need to know of a kind of network. Configs in its methods are of this kind."""

    has_grids = True  # cells learn instances, as dataset commands can show
    sections: tuple[str, ...] = ("backbone", "head")  # of the config, whose convolutions may be deformable
    instance_outputs: Mapping[str, str] = INSTANCE_OUTPUTS  # of a graph that decodes

    @abstractmethod
    def build(self, config: Config) -> nn.Layer:
        """Return the network with initial weights, drawn from Paddle's generator (`paddle.seed`)."""

    @abstractmethod
    def raw_outputs(self, config: Config) -> dict[str, str]:
        """Return the raw predictions, in their order, as in `output_sides`; none if they cannot be exported."""

    def mask_strides(self, config: Config) -> tuple[int, ...]:
        """Return the pixels of the input per pixel of a target mask, of each level: those of the masks that the network
        predicts there; () without grids."""
        return ()

    @abstractmethod
    def decode(self, raw: RawPredictions, index: int, config: Config) -> Decoded:
        """Decode picture `index` of a batch."""

    def for_scores_from(self, score: float, config: Config) -> Config:
        """Return the config with which `decode` need not find instances below a score."""
        return config

    @abstractmethod
    def with_decoding(self, network: nn.Layer, config: Config) -> nn.Layer:
        """Return a layer that gives instances of one picture, as one graph; its outputs are `instance_outputs`."""

    @abstractmethod
    def targets(self, sample: Sample, size: Size, config: Config) -> Targets:
        """Return the targets of a picture. size: height and width of the padded batch."""

    @abstractmethod
    def target_tensors(self, targets: Any) -> PictureTargets | BoxPictureTargets:
        """Return what `targets` returned, as the network's `losses` takes it."""

    @abstractmethod
    def score_features(self, config: Config) -> list[InputSpec]:
        """Describe the features that scores are made of: what `trunk` returns first, and `scores` takes."""

    @abstractmethod
    def raise_scores(self, network: nn.Layer) -> None:
        """Change random weights so that some instances pass the thresholds and every step has something to do."""

    def second_stage(self, network: nn.Layer) -> nn.Layer | None:
        """Return the part of the network that runs after a choice of boxes, which is compiled apart; None if none."""
        return None

    def second_stage_inputs(self, config: Config) -> list[InputSpec]:
        """Describe the inputs of `second_stage`."""
        return []

    @abstractmethod
    def complete(
        self, raw: RawPredictions, sizes: Sequence[Size], config: Config, second_stage: SecondStage | None
    ) -> RawPredictions:
        """Return the input of `decode` from the outputs of the network for a batch; run the second stage, if any.

        sizes: height and width of each picture within the network's input.
        """


class GridKind(NetworkKind):
    """The SOLO family: an instance for each cell of the grids."""

    outputs: Mapping[str, str]  # the raw predictions, as in `output_sides`
    shares_cells = False  # whether a cell learns the masks of all instances that it is assigned to, or of the last

    @abstractmethod
    def network(self) -> type[GridNetwork]:
        """Return the class of the network."""

    @abstractmethod
    def plain_masks(self) -> Callable[[Sequence[Tensor], int, Tensor, Any], Tensor]:
        """Return the function of model/decode/plain_masks.py that computes masks of cells."""

    @abstractmethod
    def fast_masks(self, mask_inputs: Sequence[np.ndarray], index: int, head: HeadConfig) -> CellMasks:
        """Return the masks of picture `index` of a batch. mask_inputs: raw predictions after the scores."""

    def build(self, config: Config) -> nn.Layer:
        return self.network()(config)

    def raw_outputs(self, config: Config) -> dict[str, str]:
        return expand_levels(self.outputs, config)

    def mask_strides(self, config: Config) -> tuple[int, ...]:
        return 4, 4, 8, 16, 16

    def decode(self, raw: RawPredictions, index: int, config: Config) -> Decoded:
        """Decode by the fast version from arrays, on a CPU, or by the plain one from tensors, on a GPU."""
        scores, *mask_inputs = raw
        if isinstance(scores, np.ndarray):
            masks = self.fast_masks(mask_inputs, index, config.head)
            return fast.decode(scores[index], masks, config.head, config.nms)
        from model.decode import plain

        masks_of = self.plain_masks()
        return plain.decode(
            scores[index], lambda cells: masks_of(mask_inputs, index, cells, config.head), config.head, config.nms
        )

    def for_scores_from(self, score: float, config: Config) -> Config:
        """Raise the threshold of the cells: no instance scores higher than its cell, or lowers a better one."""
        below = float(np.nextafter(np.float32(score), np.float32(0)))  # the threshold itself is left out
        return config.replace(nms=replace(config.nms, score_thr=max(config.nms.score_thr, below)))

    def complete(
        self, raw: RawPredictions, sizes: Sequence[Size], config: Config, second_stage: SecondStage | None
    ) -> RawPredictions:
        """Return raw predictions in the CPU's memory as arrays, and those of a GPU as they are."""
        raw = [part if isinstance(part, np.ndarray) or not part.place.is_cpu_place() else part.numpy() for part in raw]
        if isinstance(raw[0], np.ndarray):
            check_raw_values(raw)
        return raw

    def with_decoding(self, network: nn.Layer, config: Config) -> nn.Layer:
        from model.decode.exported import CellDecoder

        return CellDecoder(network, config, self.plain_masks())

    def targets(self, sample: Sample, size: Size, config: Config) -> GridTargets:
        from data.grid_targets import grid_targets

        return grid_targets(
            sample.gt_masks,
            sample.gt_boxes,
            sample.gt_classes,
            size=size,
            head=config.head,
            config=config.target,
            mask_strides=self.mask_strides(config),
            shares_cells=self.shares_cells,
        )

    def target_tensors(self, targets: GridTargets) -> PictureTargets:
        import paddle

        from model.losses.grid import PictureTargets

        return PictureTargets(
            labels=paddle.to_tensor(targets.labels),
            masks={stride: paddle.to_tensor(masks) for stride, masks in targets.masks.items()},
            cells=paddle.to_tensor(targets.cells),
            mask_rows=paddle.to_tensor(targets.mask_rows),
            level_pairs=targets.level_pairs,
            positives=int((targets.labels >= 0).sum()),
        )

    def score_features(self, config: Config) -> list[InputSpec]:
        return _level_inputs(config.head.channels, config.head.num_grids)

    def raise_scores(self, network: nn.Layer) -> None:
        network.head.cate_pred.weight.set_value(network.head.cate_pred.weight * 2.0)


class SOLOv2Kind(GridKind):
    """SOLOv2 (Wang et al. 2020)."""

    sections = ("backbone", "head", "mask_feat_head")
    outputs = {
        "scores": "batch cells classes",
        "kernels": "batch cells weights",
        "mask_feats": "batch channels height0 width0",
    }
    shares_cells = True

    def mask_strides(self, config: Config) -> tuple[int, ...]:
        return (config.mask_feat_head.stride,) * config.head.levels

    def network(self) -> type[GridNetwork]:
        from model.solov2 import SOLOv2

        return SOLOv2

    def plain_masks(self) -> Callable[[Sequence[Tensor], int, Tensor, Any], Tensor]:
        from model.decode.plain_masks import solov2_masks

        return solov2_masks

    def fast_masks(self, mask_inputs: Sequence[np.ndarray], index: int, head: HeadConfig) -> CellMasks:
        kernels, mask_feats = mask_inputs
        if head.reach:
            return WindowMasks(kernels[index], mask_feats[index], head)
        return KernelMasks(kernels[index], mask_feats[index])


class SOLOKind(GridKind):
    """SOLO (Wang et al. 2019)."""

    outputs = {
        "scores": "batch cells classes",
        "kernels": "cells channels",
        "mask_feats_{0}": "batch channels height{0} width{0}",
    }

    def network(self) -> type[GridNetwork]:
        from model.solo import SOLO

        return SOLO

    def plain_masks(self) -> Callable[[Sequence[Tensor], int, Tensor, Any], Tensor]:
        from model.decode.plain_masks import solo_masks

        return solo_masks

    def fast_masks(self, mask_inputs: Sequence[np.ndarray], index: int, head: HeadConfig) -> CellMasks:
        kernels, *mask_feats = mask_inputs
        return LevelMasks(kernels, [level[index] for level in mask_feats], head.num_grids)

    def raise_scores(self, network: nn.Layer) -> None:
        super().raise_scores(network)
        _set_biases(network.head.mask_preds, 0.0)  # initially masks are far below the threshold


class DecoupledSOLOKind(GridKind):
    """Decoupled SOLO (Wang et al. 2019, section 5)."""

    outputs = {"scores": "batch cells classes", "mask_logits_{0}": "batch maps{0} height{0} width{0}"}

    def network(self) -> type[GridNetwork]:
        from model.decoupled_solo import DecoupledSOLO

        return DecoupledSOLO

    def plain_masks(self) -> Callable[[Sequence[Tensor], int, Tensor, Any], Tensor]:
        from model.decode.plain_masks import decoupled_solo_masks

        return decoupled_solo_masks

    def fast_masks(self, mask_inputs: Sequence[np.ndarray], index: int, head: HeadConfig) -> CellMasks:
        return ProductMasks([level[index] for level in mask_inputs], head.num_grids)

    def raise_scores(self, network: nn.Layer) -> None:
        super().raise_scores(network)
        # The product of two probabilities exceeds a half only if both do.
        _set_biases([*network.head.x_preds, *network.head.y_preds], 1.0)


class CenterMask2Kind(NetworkKind):
    """CenterMask2 (Lee and Park 2020): boxes first, then a mask in each box."""

    has_grids = False
    instance_outputs = BOX_INSTANCE_OUTPUTS

    def build(self, config: Config) -> nn.Layer:
        from model.centermask2 import CenterMask2

        return CenterMask2(config)

    def raw_outputs(self, config: Config) -> dict[str, str]:
        return {}

    def decode(self, raw: RawPredictions, index: int, config: Config) -> Decoded:
        """Return the picture from a batch that `complete` has decoded."""
        return raw[index]

    def with_decoding(self, network: nn.Layer, config: Config) -> nn.Layer:
        from model.decode.exported import BoxDecoder

        return BoxDecoder(network, config)

    def targets(self, sample: Sample, size: Size, config: Config) -> BoxTargets:
        from data.box_targets import box_targets

        picture = sample.image.shape[:2]
        annotations = sample.gt_masks, sample.gt_boxes, sample.gt_classes
        return box_targets(*annotations, picture=picture, size=size, config=config.target)

    def target_tensors(self, targets: BoxTargets) -> BoxPictureTargets:
        import paddle

        from data.box_targets import centerness_of
        from model.losses.boxes import BoxPictureTargets, MaskPart

        places, centerness = np.flatnonzero(targets.labels >= 0), centerness_of(targets.distances)
        return BoxPictureTargets(
            labels=paddle.to_tensor(targets.labels),
            places=paddle.to_tensor(places),
            distances=paddle.to_tensor(targets.distances),
            centerness=paddle.to_tensor(centerness),
            positives=len(places),
            centerness_sum=float(centerness.sum()),
            boxes=targets.boxes,
            classes=targets.classes,
            masks=[MaskPart(*mask) for mask in targets.masks],
            picture=targets.picture,
        )

    def score_features(self, config: Config) -> list[InputSpec]:
        return _level_inputs(config.head.channels, [None] * 2 * len(BOX_STRIDES))  # of both towers

    def raise_scores(self, network: nn.Layer) -> None:
        """Predict boxes of some strides, and masks that may be right and end somewhere."""
        network.head.cate_pred.weight.set_value(network.head.cate_pred.weight * 2.0)
        rois = network.roi_head
        for layer, bias in ((network.head.box_pred, 3.0), (rois.iou_head.pred, 1.0), (rois.mask_head.pred, 0.1)):
            _set_biases([layer], bias)

    def second_stage(self, network: nn.Layer) -> nn.Layer:
        return network.roi_head

    def second_stage_inputs(self, config: Config) -> list[InputSpec]:
        from paddle.static import InputSpec

        side = config.roi.size
        features = InputSpec([None, config.neck.out_channels, side, side], "float32", "features")
        return [features, InputSpec([None], "int64", "classes")]

    def complete(
        self, raw: RawPredictions, sizes: Sequence[Size], config: Config, second_stage: SecondStage | None
    ) -> list[Decoded]:
        from model.centermask2 import decode_batch
        from model.device import on_device

        *predictions, p3, p4, p5 = raw
        pyramid = [on_device(level) for level in (p3, p4, p5)]
        arrays = [np.asarray(part) for part in predictions]
        check_raw_values(arrays)
        return decode_batch(arrays, pyramid, sizes, config, second_stage)


@cache
def descriptor(kind: str) -> NetworkKind:
    """Return the descriptor of a value of `head.kind`."""
    return resolve_name(HEAD_KINDS[kind].descriptor)()


def kind_of(config: Config) -> NetworkKind:
    """Return the descriptor of a config's network."""
    return descriptor(config.head.kind)


def build_network(config: Config) -> nn.Layer:
    """Return the network of a config with initial weights, drawn from Paddle's generator (`paddle.seed`)."""
    return kind_of(config).build(config)


def _level_inputs(channels: int, sides: Sequence[int | None]) -> list[InputSpec]:
    from paddle.static import InputSpec

    return [InputSpec([None, channels, side, side], "float32", f"level{i}") for i, side in enumerate(sides)]


def _set_biases(layers: Sequence[nn.Layer], value: float) -> None:
    import paddle

    for layer in layers:
        layer.bias.set_value(paddle.full_like(layer.bias, value))
