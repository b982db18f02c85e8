"""Train a network.

Examples:
    python train.py --config=20                                        the small model, on generated pictures
    python train.py --config=1 -o train_path=my/train.json -o train_pre_path=my/pictures ...
    python train.py --config=20 --resume auto                          continue a stopped run
    python -m paddle.distributed.launch --nproc_per_node=8 train.py --config=0
"""

from __future__ import annotations

from tools.common.startup import run

import argparse
import sys
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

from config import load_config
from config.base import PROJECT, Config
from model.device import select_device
from tools.common.distributed import World, join_world
from tools.common.memory import keep_memory
from tools.common.processes import run_processes, shared_training
from tools.common.signals import stop_status
from tools.train import setup
from tools.train.options import parse_options


def main() -> int:
    args = parse_options(__doc__)
    config = load_config(args.config, args.overrides)
    folder = args.output or PROJECT / "runs" / config.name
    device = select_device(args.device)
    world = join_world()
    processes, shares = shared_training(config)
    if device == "cpu" and world.size == 1:
        if processes > 1:  # this program again, as members of one training
            return run_processes([*sys.argv, *chain.from_iterable(("-o", share) for share in shares)], processes)
        config = load_config(config, shares)
    writes = world.is_first and not args.performance
    with setup.reserve_folder(folder, resumes=args.resume is not None) if writes else nullcontext():
        return _train(args, config, folder, world)


def _train(args: argparse.Namespace, config: Config, folder: Path, world: World) -> int:
    """Run the training in this process; return the exit status."""
    keep_memory()
    start = {"resume": args.resume, "finetune": args.finetune}
    trainer, message = setup.prepare(config, folder, **start, world=world, writes=not args.performance)
    last_step = trainer.step + args.performance if args.performance else args.max_iters
    finished = setup.describe_finished(trainer, last_step)
    if world.is_first:
        print(message, *filter(None, [finished]), sep="\n")
    if finished:
        return 0
    stop_signal = trainer.run(last_step=last_step, visualdl=args.visualdl)
    if world.is_first:
        print(setup.describe_end(trainer, stopped=bool(stop_signal), tuned=bool(args.finetune)))
    return stop_status(stop_signal) if stop_signal else 0


if __name__ == "__main__":
    sys.exit(run(main))
