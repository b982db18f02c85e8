"""Find the instances in pictures with an exported network: ONNX Runtime instead of Paddle, which is not needed.

    python tools/export.py --config=20 --output shapes.onnx
    python tools/infer_onnx.py shapes.onnx images/test --output drawn --json found.json
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `run` takes over: Ctrl-C during the imports ends in silence
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import model  # noqa: F401  (ahead of numpy, see there)

from data.images import find_images  # noqa: E402
from tools.cli import Parser, run  # noqa: E402
from tools.demonstration import add_demonstration_options, demonstrate, parse  # noqa: E402
from tools.exported import exported_predictor  # noqa: E402


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("model", metavar="MODEL.onnx", type=Path, help="file of tools/export.py")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="files, folders, globs")
    add_demonstration_options(parser)
    args = parse(parser)
    paths = find_images(args.pictures)
    predictor = exported_predictor(args.model, score=args.score)
    return demonstrate(args, predictor.config, paths, args.model, lambda: predictor)


if __name__ == "__main__":
    sys.exit(run(main))
