"""Convert a SOLOv2 checkpoint of PaddleDetection (.pdparams).

    python convert/ppdet2paddle.py --download --config=0
    python convert/ppdet2paddle.py solov2_r50_fpn_3x_coco.pdparams --config=0
    python convert/ppdet2paddle.py solov2_light_r50_vd_fpn_dcn_512_3x.pdparams

--download fetches the checkpoint of a config into weights/downloads/, the one of 2.x if there are two. An interrupted
download continues when the command is run again.

Reads checkpoints of 2.x (dynamic graph: configs 0, 6, 10 and 11) and of 0.5 (static graph: configs 0, 2, 6, 22 and
23).
PaddleDetection prepares pictures slightly differently from the original SOLO. The converted checkpoint stores these
settings, and every program that runs it applies them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

from convert.command import convert_network

if __name__ == "__main__":
    sys.exit(run(lambda: convert_network(__doc__, script="convert/ppdet2paddle.py")))
