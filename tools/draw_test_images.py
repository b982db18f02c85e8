"""Draw the pictures of images/test: shapes on cluttered backgrounds, in different sizes, for a first run of demo.py.

Examples:
    python tools/draw_test_images.py
    python tools/draw_test_images.py --output images/more --seed 12
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.common.startup import run

import numpy as np

from config.base import PROJECT
from data.shapes import Scene, draw_scene
from data.written import check_output_files, write_drawing
from tools.common.cli import Parser, natural_number

# Height, width and file type of each picture: landscape, portrait and square; two without compression loss.
PICTURES = (
    (256, 256, ".jpg"),
    (240, 320, ".jpg"),
    (320, 240, ".jpg"),
    (384, 512, ".jpg"),
    (480, 640, ".jpg"),
    (480, 320, ".jpg"),
    (320, 480, ".png"),
    (427, 640, ".jpg"),
    (333, 251, ".jpg"),
    (512, 512, ".jpg"),
    (192, 240, ".png"),
    (600, 450, ".jpg"),
)
# Shares of the shorter side. The shapes must not appear smaller to config 20 than in its square training pictures.
DIAMETERS = (1 / 6, 1 / 2)


def scene_of(number: int, *, seed: int) -> Scene:
    """Draw picture `number`, counted from 0; it depends only on the number and the seed."""
    height, width, _ = PICTURES[number]
    rng = np.random.default_rng([seed, number + 1])
    return draw_scene(rng=rng, height=height, width=width, diameters=DIAMETERS)


def draw_test_images(*, output: Path, seed: int) -> list[Path]:
    """Write PICTURES to `output`/shapes_01.jpg ...; returns the paths."""
    paths = [output / f"shapes_{number:02d}{suffix}" for number, (_, _, suffix) in enumerate(PICTURES, start=1)]
    check_output_files(paths)
    for number, path in enumerate(paths):
        write_drawing(path, scene_of(number, seed=seed).image)
    return paths


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "images" / "test", help="folder to write to (default: images/test)"
    )
    parser.add_argument("--seed", type=natural_number, default=0, help="seed of the random shapes (default: 0)")
    args = parser.parse_args(argv)
    paths = draw_test_images(output=args.output, seed=args.seed)
    print(f"wrote {len(paths)} pictures to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
