"""Time networks in float32, bfloat16 and INT8 on the same pictures, and print one table with the ratios.

    python -m tests.benchmarks.precisions --configs 0 1 3 --images photos --output runs/precisions

For each config random weights are written to --output and quantized with the pictures, unless a run before this one has
done so. Then tools/benchmark.py times INT8, and float32 and, where the processor has it, bfloat16. The table is also
written as table.csv, and its stages as bars to table.png.
"""

from __future__ import annotations

from tools.common.startup import run

import json
import subprocess
import sys
from pathlib import Path

from config import load_config
from config.base import PROJECT
from data.images import write_image
from data.written import write_output
from tests.support.programs import python_command
from tests.support.random_weights import write_random_checkpoint
from tools.common.cli import Parser, natural_number, positive_number
from tools.engine.int8 import int8_path
from tools.engine.select import has_bfloat16
from tools.predict.benchmark_figures import format_csv, format_table, plot, ratios

CALIBRATION = 16  # pictures
OTHERS = ("onnx", "openvino", *(["openvino:bf16"] if has_bfloat16() else []))


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--configs", nargs="+", required=True, type=natural_number, metavar="N", help="their numbers")
    parser.add_argument("--images", nargs="+", required=True, metavar="PATH", help="files, folders, globs")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for weights and the table")
    parser.add_argument("--limit", type=positive_number, default=12, metavar="N", help="of the pictures (default: 12)")
    parser.add_argument(
        "--candidates", type=positive_number, default=1300, metavar="N", help="in the first picture (default: 1300)"
    )
    args = parser.parse_args()
    figures = [measure(number, args.images, args.output, args.limit, args.candidates) for number in args.configs]
    lines = [line for lines in figures for line in lines]
    print(f"{lines[0]['machine']}, Paddle {lines[0]['paddle']}")
    print(format_table(lines))
    for first, *others in figures:
        print(*(ratios(first, other) for other in others), sep="\n")
        print(*(ratios(others[-1], other) for other in others[:-1]), sep="\n")
    with write_output(args.output / "table.csv") as temporary:
        temporary.write_text(format_csv(lines), encoding="utf-8")
    write_image(args.output / "table.png", plot(lines))
    return 0


def measure(number: int, images: list[str], folder: Path, limit: int, candidates: int) -> list[dict]:
    """Return the figures of a config in INT8, and those of `OTHERS`."""
    config = load_config(number)
    weights = (folder / f"{config.name}.pdparams").resolve()
    if not weights.exists():
        write_random_checkpoint(weights, config)
    common = f"--config={number}", f"--weights={weights}", "--images", *images
    if not int8_path(weights).exists():
        run_program("tools/quantize.py", *common, f"--limit={CALIBRATION}")
    figures = folder / f"{config.name}.json"
    options = f"--limit={limit}", f"--candidates={candidates}", "--engine=openvino", "--precision=int8"
    run_program("tools/benchmark.py", *common, *options, f"--json={figures.resolve()}", "--vs", *OTHERS)
    return json.loads(figures.read_text())


def run_program(*arguments: object) -> None:
    subprocess.run(python_command(PROJECT / str(arguments[0]), *arguments[1:]), check=True)


if __name__ == "__main__":
    sys.exit(run(main))
