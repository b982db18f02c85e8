"""Convert an ImageNet ResNet of torchvision (.pth; 18, 34, 50 or 101, with or without fc) to a backbone.

    python convert/torchvision2paddle.py resnet50-0676ba61.pth

The result, weights/resnet50_imagenet.pdparams, is a backbone to start training from.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from convert.command import convert_backbone

if __name__ == "__main__":
    sys.exit(run(lambda: convert_backbone(__doc__, script="convert/torchvision2paddle.py")))
