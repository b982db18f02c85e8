"""Files as other programs publish them: random weights under the names that each program writes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Callable

import numpy as np

from config import load_config
from convert.conversion import Shapes, backbone_shapes, network_shapes
from convert.sources import plain_resnets
from tests.support import foreign_names
from tests.support.checkpoint_writers import (
    write_pdparams,
    write_safetensors,
    write_torch_legacy,
    write_torch_zip,
    write_variable_folder,
    write_variable_tar,
)

(RESNET18,) = (backbone_shapes(config) for config in plain_resnets(18, variant="b"))
(RESNET50_VD,) = (backbone_shapes(config) for config in plain_resnets(50, variant="d"))
MOBILENETV3 = backbone_shapes(load_config(22).backbone)
COUNTER = "bn1.num_batches_tracked"


def random_array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).random(shape, np.float32)


@dataclass(frozen=True)
class Published:
    """A file as a program publishes it. extra: names and shapes of tensors in it that we do not need."""

    script: str
    program: str
    file: str
    write: Callable[[Path, Mapping[str, np.ndarray]], None]
    shapes: Shapes
    names: Callable[[Shapes], dict[str, str]]
    extra: Mapping[str, tuple[int, ...]]
    config: int | None = None
    backbone: str = ""
    overrides: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the weights that our checkpoint must contain after the conversion."""
        return {name: random_array(name, shape) for name, shape in self.shapes.items()}


def in_detector(names: Callable[[Shapes], dict[str, str]], shapes: Shapes) -> dict[str, str]:
    """Return the names of a backbone's parameters as detectron2 reads them."""
    return {ours: f"backbone.bottom_up.{theirs}" for ours, theirs in names(shapes).items()}


PPDET_2_ALIASES = {"solov2_head.solo_cate.bias": (80,), "mask_head.conv_pred.norm.bias": (128,)}
NETWORKS = {number: network_shapes(load_config(number)) for number in (2, 3, 11, 31, 36, 37)}
VOVNET39, VOVNET19, MOBILENET = (backbone_shapes(load_config(number).backbone) for number in (30, 36, 37))
CENTERMASK2 = Published(
    "centermask2paddle",
    "CenterMask2",
    "centermask2-lite-V-39-eSE-FPN-ms-4x.pth",
    partial(write_torch_zip, wrap="model"),
    NETWORKS[31],
    foreign_names.centermask2,
    {"pixel_mean": (3, 1, 1), "pixel_std": (3, 1, 1)},
    config=31,
)
VOVNET = Published(
    "vovnet2paddle",
    "VoVNet's classifier",
    "vovnet39_ese_detectron2.pth",
    partial(write_torch_zip, wrap=None),
    VOVNET39,
    foreign_names.vovnet,
    {"classifier.weight": (1000, 1024), "classifier.bias": (1000,)},
    backbone="vovnet39_ese_imagenet",
)
SOLO_R18 = Published(
    "solo2paddle",
    "the original SOLO",
    "SOLOv2_Light_448_R18_3x.pth",
    write_torch_legacy,
    NETWORKS[3],
    foreign_names.solo,
    {f"backbone.{COUNTER}": ()},
    config=3,
)
TORCHVISION_R18 = Published(
    "torchvision2paddle",
    "torchvision",
    "resnet18-5c106cde.pth",
    partial(write_torch_legacy, wrap=None),
    RESNET18,
    foreign_names.torchvision,
    {"fc.weight": (1000, 512), "fc.bias": (1000,), COUNTER: ()},
    backbone="resnet18_imagenet",
)
SSLD_R50 = Published(
    "ssld2paddle",
    "PaddleClas 1.x",
    "ResNet50_vd_ssld_pretrained",
    write_variable_folder,
    RESNET50_VD,
    foreign_names.clas_1,
    {"fc_0.w_0": (2048, 1000), "fc_0.b_0": (1000,)},
    backbone="resnet50_vd_imagenet",
)
PUBLISHED = (
    SOLO_R18,
    replace(
        SOLO_R18,
        file="new_torch.pth",
        write=write_torch_zip,
        options=("--config", "solov2_light_448_r18_fpn_8gpu_3x", "--output", "weights/new/folder/mine.pdparams"),
    ),
    replace(
        SOLO_R18,
        script="openfirework2paddle",
        program="OpenFirework's pytorch_solov2",
        file="solov2_448_r18.pth",
        write=partial(write_torch_zip, wrap=None),
        names=foreign_names.openfirework,
    ),
    Published(
        "ppdet2paddle",
        "PaddleDetection 2.x",
        "solov2_r50_enhance_coco.pdparams",
        write_pdparams,
        NETWORKS[11],
        foreign_names.ppdet_2,
        PPDET_2_ALIASES,
        config=11,
        overrides=("data.normalize_first=true", "data.resize_by=size", "data.crop_masks=rounded"),
    ),
    Published(
        "ppdet2paddle",
        "PaddleDetection 0.5",
        "solov2_light_r50_vd_fpn_dcn_512_3x.pdparams",
        partial(write_pdparams, protocol=2),
        NETWORKS[2],
        foreign_names.ppdet_0_5,
        {},
        config=2,
        overrides=("data.normalize_first=false", "data.resize_by=factor", "data.crop_masks=truncated"),
    ),
    CENTERMASK2,
    replace(CENTERMASK2, file="centermask-lite-V-19-eSE-slim-dw-FPN-ms-4x.pth", shapes=NETWORKS[36], config=36),
    replace(CENTERMASK2, file="centermask_lite_Mv2_ms_4x.pth", shapes=NETWORKS[37], config=37),
    VOVNET,
    replace(
        VOVNET,
        file="vovnet19_ese_slim_dw_detectron2.pth",
        shapes=VOVNET19,
        names=partial(in_detector, foreign_names.vovnet),
        extra={},
        backbone="vovnet19_ese_slim_dw_imagenet",
    ),
    Published(
        "mobilenet2paddle",
        "MobileNetV2's classifier",
        "mobilenet_v2_detectron2.pth",
        partial(write_torch_zip, wrap=None),
        MOBILENET,
        partial(in_detector, foreign_names.mobilenet),
        {},
        backbone="mobilenetv2_imagenet",
    ),
    TORCHVISION_R18,
    replace(TORCHVISION_R18, file="without_classifier.pth", write=partial(write_torch_zip, wrap=None), extra={}),
    replace(
        TORCHVISION_R18,
        file="model.safetensors",
        write=write_safetensors,
        extra={"fc.weight": (1000, 512), "fc.bias": (1000,)},
    ),
    SSLD_R50,
    replace(SSLD_R50, file="ResNet50_vd_ssld_pretrained.tar", write=write_variable_tar),
    replace(
        SSLD_R50,
        file="MobileNetV3_large_x1_0_ssld_pretrained.tar",
        write=write_variable_tar,
        shapes=MOBILENETV3,
        extra={"last_1x1_conv_weights": (1280, 960, 1, 1), "fc_weights": (1280, 1000), "fc_offset": (1000,)},
        backbone="mobilenetv3_imagenet",
    ),
    replace(
        SSLD_R50,
        program="PaddleClas 2.x",
        file="ResNet50_vd_ssld_pretrained.pdparams",
        write=write_pdparams,
        names=foreign_names.clas_2,
        extra={"fc.weight": (2048, 1000), "fc.bias": (1000,)},
    ),
)
