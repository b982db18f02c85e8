"""Convert an ImageNet VoVNetV2 with eSE (detectron2, .pth; 19, 39, 57 or 99) to a backbone.

    python convert/vovnet2paddle.py vovnet39_ese_detectron2.pth
    python convert/vovnet2paddle.py vovnet19_ese_slim_dw_detectron2.pth

The result, weights/vovnet39_ese_imagenet.pdparams for the first one, is a backbone to start training from.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from convert.command import convert_backbone

if __name__ == "__main__":
    sys.exit(run(lambda: convert_backbone(__doc__, script="convert/vovnet2paddle.py")))
