"""What the command lines of the project have in common."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Callable, NoReturn

from config import load_config, registry
from config.base import Config, Published
from config.engines import ENGINES, PRECISIONS
from config.errors import InputError

DEFAULT_CONFIG = 20


class Parser(argparse.ArgumentParser):
    """Help from the module's docstring, and errors in one line."""

    def __init__(self, docstring: str) -> None:
        super().__init__(description=docstring.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help shows all options)\n")


def run(main: Callable[[], int]) -> int:
    """Call a command line's `main` and turn a user's mistake into one line and exit status 2, Ctrl-C into 130."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show must not end the program
            stream.reconfigure(errors="backslashreplace")
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = main()
        sys.stdout.flush()
        return status
    except InputError as error:
        if in_main_thread:  # from here on the status says what happened, even if other processes end this one
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(f"{argparse.ArgumentParser().prog}: error: {join_lines(error)}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); Python must not try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def join_lines(message: object) -> str:
    """A message in which a name with a line break does not break the line."""
    return " ".join(str(message).splitlines())


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """--config, --list and -o, as every program that follows a config has them."""
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, metavar="N", help=f"number or name of a config (default: {DEFAULT_CONFIG})"
    )
    parser.add_argument("--list", action=_ListConfigs, nargs=0, help="print all configs and end")
    parser.add_argument(
        "-o",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="change a field of the config, for example -o nms.score_thr=0.2; may be given several times",
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (a GPU where Paddle sees one), cpu, gpu or gpu:0 ...")


def add_weights_options(parser: argparse.ArgumentParser) -> None:
    """--weights and --untrained beside those of `add_config_options`, for programs that need a trained network."""
    add_config_options(parser)
    parser.add_argument(
        "--weights", metavar="FILE", help="checkpoint to run (default: the config's, weights/<config name>.pdparams)"
    )
    parser.add_argument(
        "--untrained",
        type=natural_number,
        metavar="SEED",
        help="run random weights drawn from this seed instead of a checkpoint, to try the program or to time it",
    )


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """--device, --engine and --precision beside those of `add_weights_options`, for programs that run a network."""
    add_weights_options(parser)
    add_device_option(parser)
    parser.add_argument(
        "--engine",
        choices=("auto", *ENGINES),
        default="auto",
        help="what runs the network: static is a graph that Paddle compiles once and keeps, dynamic Paddle layer by "
        "layer, onnx and openvino are other programs (default: dynamic on a GPU; on a CPU onnx or openvino "
        "where they are installed, else static)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="arithmetic of the network (default: fp32); for int8 see tools/quantize_onnx.py",
    )


def network_options(args: argparse.Namespace) -> dict[str, object]:
    """The arguments of `Predictor` that the options of `add_network_options` stand for, beside the config."""
    names = ("weights", "overrides", "untrained", "device", "engine", "precision")
    return {name: getattr(args, name) for name in names}


class _ListConfigs(argparse.Action):
    def __call__(self, parser, *_) -> None:
        print(list_configs())
        parser.exit()


def list_configs() -> str:
    """The table that `--list` prints."""
    rows = [("", "config", "backbone", "input", "parameters", "GFLOP", "mask AP", "convert with", "published at")]
    for number, kind in registry().items():
        config = kind()
        first, *others = config.published or (None,)
        network = (config.name, _backbone(config), _input(config), *_cost(config))
        rows.append((str(number), *network, *_where(config, first)))
        rows += [("", *[""] * len(network), *_where(config, other)) for other in others]
    return align_columns(rows)


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as lines with the cells below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _where(config: Config, published: Published | None) -> tuple[str, str, str]:
    if published is None:
        here = config.model_path("test_cfg")
        return "", "", str(here) if here.exists() else f"not published; train.py --config={config.number} makes one"
    return f"{published.mask_ap:.1f}", published.command(config.number), published.where


def _backbone(config: Config) -> str:
    backbone = config.backbone
    if backbone.kind == "vovnet":
        return f"VoVNetV2-{backbone.depth}-eSE"
    name = f"ResNet-{backbone.depth}"
    if backbone.groups > 1:
        name = f"ResNeXt-{backbone.depth} {backbone.groups}x{backbone.base_width}d"
    suffixes = {"d": "-vd"}.get(backbone.variant, ""), f" DCNv{backbone.deform_version}"
    return name + suffixes[0] + (suffixes[1] if backbone.deform_version else "")


def _input(config: Config) -> str:
    return f"{config.data.short_side}/{config.data.long_side}"


def _cost(config: Config) -> tuple[str, str]:
    return (f"{config.cost.parameters:.1f} M", f"{config.cost.gflop:.1f}") if config.cost else ("", "")


def config_of(args: argparse.Namespace) -> Config:
    """The config of `add_weights_options`. Raises InputError for options that exclude each other too."""
    if args.weights is not None and args.untrained is not None:
        raise InputError("--weights and --untrained: give one of them")
    return load_config(args.config, args.overrides)


def natural_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    if int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text} is too large, give a number below 2^63")
    return int(text)


def positive_number(text: str) -> int:
    number = natural_number(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 is too few, give 1 or more")
    return number


def fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def input_size(text: str) -> tuple[int, ...]:
    """`480x640` as height and width, `dynamic` as nothing."""
    sides = text.split("x")
    if text == "dynamic":
        return ()
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: expected height x width such as 480x640, or dynamic")
    return int(sides[0]), int(sides[1])
