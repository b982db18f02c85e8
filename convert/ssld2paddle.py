"""Convert PaddleClas' ResNet50_vd_ssld or MobileNetV3_large_x1_0_ssld, trained on ImageNet, to a backbone.

    python convert/ssld2paddle.py ResNet50_vd_ssld_pretrained.tar
    python convert/ssld2paddle.py ResNet50_vd_ssld_pretrained.pdparams
    python convert/ssld2paddle.py MobileNetV3_large_x1_0_ssld_pretrained.tar

Reads the folder of variables of PaddleClas 1.x, also as tar, and for ResNet50_vd the .pdparams of later versions. The
result, such as weights/resnet50_vd_imagenet.pdparams, is a backbone to start training from.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from config import load_config
from convert.command import convert_backbone, plain_resnets
from convert.names import SSLD

CONFIG = 22  # has the MobileNetV3


def main() -> int:
    return convert_backbone(__doc__, SSLD, [*plain_resnets(50, variant="d"), load_config(CONFIG).backbone])


if __name__ == "__main__":
    sys.exit(run(main))
