"""Time training batches in one thread, and compare them with a plain computation that must give the same.

    python -m tests.benchmarks.training_batches --config=2 -o train_path=... -o train_pre_path=...

The plain computation is tests/support/reference_targets.py.
"""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np
from tqdm import tqdm

from config import load_config
from data.coco import read_coco
from data.training_set import TrainingSet
from tests.support.reference_targets import assert_same_targets, reference_batch
from tools.common.cli import Parser, add_config_options, positive_number, run
from tools.common.kinds import kind_of


def main() -> int:
    parser = Parser(__doc__)
    add_config_options(parser)
    parser.add_argument("--pictures", type=positive_number, default=160, help="how many to time (default: 160)")
    args = parser.parse_args()
    config = load_config(args.config, args.overrides)
    if config.head.kind != "solov2":
        parser.error("--config: choose one of SOLOv2; only there all masks have one size")
    cv2.setNumThreads(1)
    records = read_coco(config.train_path, config.train_pre_path).records
    data = TrainingSet(records, config, seed=0, make_targets=kind_of(config).targets)
    seconds = {"reference": 0.0, "data.training_set": 0.0}
    for number in tqdm(range(args.pictures)):
        epoch, place = divmod(number, len(data))
        results = []
        for (name, total), batch in zip(seconds.items(), (reference_batch, TrainingSet.batch)):
            start = time.process_time()
            results.append(batch(data, epoch, [place]))
            seconds[name] = total + time.process_time() - start
        (images, (reference,)), ours = results
        np.testing.assert_array_equal(ours.images, images)
        assert_same_targets(ours.targets[0], reference)
    for name, total in seconds.items():
        print(f"{name}: {args.pictures / total:.1f} pictures/s, {1000 * total / args.pictures:.1f} ms each")
    print(f"{seconds['reference'] / seconds['data.training_set']:.2f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
