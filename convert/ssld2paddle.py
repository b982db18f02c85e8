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

from convert.command import convert_backbone

if __name__ == "__main__":
    sys.exit(run(lambda: convert_backbone(__doc__, script="convert/ssld2paddle.py")))
