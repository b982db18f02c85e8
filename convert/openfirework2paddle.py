"""Convert a checkpoint of OpenFirework's pytorch_solov2 (.pth; ResNet-18 and 34) to config 3 or 4.

    python convert/openfirework2paddle.py solov2_448_r18.pth
    python demo.py --config=3

That program limits a picture's long side to 480 pixels; the configs, like the original SOLO, to 768. For the input size
of that program, add -o data.long_side=480 to demo.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from convert.command import convert_network

if __name__ == "__main__":
    sys.exit(run(lambda: convert_network(__doc__, script="convert/openfirework2paddle.py")))
