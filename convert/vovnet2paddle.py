"""Convert an ImageNet VoVNetV2 with eSE (detectron2, .pth; 39, 57 or 99) to a backbone.

    python convert/vovnet2paddle.py vovnet39_ese_detectron2.pth

The result, weights/vovnet39_ese_imagenet.pdparams, is a backbone to start training from.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from dataclasses import replace

from config import load_config
from convert.command import convert_backbone
from convert.names import VOVNET
from model.backbone.vovnet import STAGE_BLOCKS

CONFIG = 30  # its backbone gives the widths


def main() -> int:
    backbone = load_config(CONFIG).backbone
    return convert_backbone(__doc__, [VOVNET], [replace(backbone, depth=depth) for depth in STAGE_BLOCKS])


if __name__ == "__main__":
    sys.exit(run(main))
