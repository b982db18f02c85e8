"""Convert an ImageNet MobileNetV2 (detectron2, .pth) to a backbone.

    python convert/mobilenet2paddle.py mobilenet_v2_detectron2.pth

The result, weights/mobilenetv2_imagenet.pdparams, is a backbone to start training from. It expects pictures as config
37 prepares them: BGR from 0 to 255 minus the mean.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from convert.command import convert_backbone

if __name__ == "__main__":
    sys.exit(run(lambda: convert_backbone(__doc__, script="convert/mobilenet2paddle.py")))
