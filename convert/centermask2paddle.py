"""Convert a checkpoint of CenterMask2 (detectron2, .pth) to one of the configs from 30 to 40.

    python convert/centermask2paddle.py centermask2-V-39-eSE-FPN-ms-3x.pth
    python convert/centermask2paddle.py centermask2-V-99-eSE-FPN-ms-3x.pth --verify images/test/shapes_01.jpg

Torch is not needed, and no code in the file is executed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from convert.command import convert_network

if __name__ == "__main__":
    sys.exit(run(lambda: convert_network(__doc__, script="convert/centermask2paddle.py")))
