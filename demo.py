"""Find the instances in pictures and draw them.

python demo.py --config=0                          the pictures in images/test, drawings in images/res
python demo.py --config=2 --input photos 'more/*.jpg' --output drawn --json found.json
python demo.py --list                              all configs, and where their checkpoints are published
"""

from __future__ import annotations

from tools.common.startup import run

import sys

from config.base import PROJECT
from data.images import find_images
from tools.common.cli import Parser, add_network_options, config_of, network_options
from tools.predict.demo_options import UNTRAINED, add_demonstration_options, demonstrate, parse
from tools.predict.load import Predictor


def main() -> int:
    parser = Parser(__doc__)
    add_network_options(parser)
    parser.add_argument("--input", nargs="+", metavar="PATH", help="files, folders, globs (default: images/test)")
    add_demonstration_options(parser)
    args = parse(parser)
    config = config_of(args)
    paths = find_images(args.input or [PROJECT / config.test_path])
    notes = [UNTRAINED] if args.untrained is not None else []
    return demonstrate(
        args,
        config,
        paths,
        args.weights or config.model_path("test_cfg"),
        lambda: Predictor(config, **network_options(args), score=args.score),
        *notes,
    )


if __name__ == "__main__":
    sys.exit(run(main))
