"""Convert a checkpoint of the original SOLO repository (mmdet 1.x, .pth).

    python convert/solo2paddle.py SOLOv2_R50_3x.pth --config=0
    python convert/solo2paddle.py DECOUPLED_SOLO_R50_3x.pth --config=16
    python convert/solo2paddle.py SOLOv2_Light_448_R18_3x.pth --verify images/test/shapes_01.jpg

Torch is not needed, and no code in the file is executed. Configs 0, 1, 3 to 9 and 12 to 19 have published checkpoints.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from convert.command import convert_network

if __name__ == "__main__":
    sys.exit(run(lambda: convert_network(__doc__, script="convert/solo2paddle.py")))
