"""Options, argument types and error handling that the command lines of the project share."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Collection, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Callable, NoReturn, TextIO, cast

from config import load_config
from config.base import Config
from config.coco_layout import LAYOUT, data_root_overrides
from config.engines import ENGINES, PRECISIONS
from config.errors import InputError, escape_controls, printable, shorten
from data.files import REMEDIES
from tools.common.config_table import list_configs
from tools.common.memory import is_out_of_memory
from tools.common.output import OutputClosedError, OutputError, OutputStream
from tools.common.signals import stop_message, stop_signals_handled, stop_status

DEFAULT_CONFIG = 20


class Parser(argparse.ArgumentParser):
    """An argument parser with the module's docstring as help text and with one-line errors."""

    def __init__(self, docstring: str) -> None:
        super().__init__(description=docstring.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
        self.register("type", Path, named_path)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(message)} (--help shows all options)\n")

    def refuse(self, args: argparse.Namespace, names: Collection[str], reason: str) -> None:
        """Raise InputError if one of the options with these names in `args` is given. reason: what excludes them."""
        for action in self._actions:
            if action.dest in names and getattr(args, action.dest) != action.default:
                option = action.option_strings[0] if action.option_strings else action.metavar
                raise InputError(f"{option}: cannot be combined with {reason}; leave it out")

    def refuse_fields(self, args: argparse.Namespace, names: Collection[str], reason: str) -> None:
        """Raise InputError if -o changes a field that begins with one of these names. reason: what excludes them.

        Call it only for fields that a user expects to have an effect. Training settings are accepted everywhere, so
        that the same -o options work for training and evaluation.
        """
        for assignment in args.overrides:
            if assignment.strip().startswith(tuple(names)):
                raise InputError(f"-o {assignment}: has no effect with {reason}; leave it out")


GRACE_PERIOD = 10  # seconds in which a process ends after an error, or else is ended


def run(main: Callable[[], int], *, ends_process: bool = False) -> int:
    """Call a program's `main` and return its exit status.

    ends_process: the process ends with this status, at the latest after GRACE_PERIOD unless the status is 0. After too
    little memory, threads of libraries may wait for ever, for which Python would wait.

    A user's mistake (InputError) becomes a one-line message and usually status 2. Ctrl-C becomes status 130, SIGTERM
    143 and SIGHUP 129; temporary files are removed before. A full disk behind standard output is such a mistake too;
    the program ends quietly if nobody reads what it prints. Control characters in what is printed are escaped.
    """
    if sys.stdout is None or sys.stderr is None:  # closed, as by >&-
        null = Path(os.devnull).open("w")  # noqa: SIM115 (until the end of the program)
        sys.stdout, sys.stderr = sys.stdout or null, sys.stderr or null
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name that the terminal cannot show must not end the program
            stream.reconfigure(errors="backslashreplace")
    out = OutputStream(sys.stdout, "standard output", escape_controls)
    err = OutputStream(sys.stderr, "standard error")  # not escaped: progress bars move the cursor
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        try:
            status = _run(main)
        finally:
            out.close_if_unwritable()
            err.close_if_unwritable()
    if status and ends_process and hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE_PERIOD)
    return status


def _run(main: Callable[[], int]) -> int:
    in_main_thread = threading.current_thread() is threading.main_thread()
    received: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        if number not in (signal.SIGINT, signal.SIGTERM):  # a terminal that is closed may send SIGHUP twice
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        with stop_signals_handled(interrupt) if in_main_thread else nullcontext():
            return _call(main)
    except KeyboardInterrupt:
        return _end_at_signal(received)
    except OutputClosedError as error:
        return _end_at_signal(received) if received else error.status  # a terminal that is closed takes no output
    except Exception as error:
        if received:  # a library that was being loaded has turned it into an ImportError
            return _end_at_signal(received)
        message = _message_of(error)
        if message is None:
            raise
        if in_main_thread:  # keep the exit status, even if other processes of the run end this one now
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _print_last(f"{argparse.ArgumentParser().prog}: error: {printable(message)}")
        return error.status if isinstance(error, InputError) else InputError.status


def _end_at_signal(received: Sequence[int]) -> int:
    number = received[0] if received else signal.SIGINT  # not received here: KeyboardInterrupt of another handler
    _print_last(stop_message(number))
    return stop_status(number)


def _call(main: Callable[[], int]) -> int:
    """Call `main`, and write what it has printed. Raises OutputError if that is not possible."""
    try:
        status = main()
    except SystemExit:  # of --help and --list
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _print_last(message: str) -> None:
    """Print a message to standard error if it can be written."""
    with suppress(OutputError):
        print(message, file=sys.stderr)


def _message_of(error: Exception) -> str | None:
    """Return what to print about an error that the user can correct, None for a bug in the program."""
    if isinstance(error, InputError):
        return str(error)
    if is_out_of_memory(error):
        remedy = "close other programs, or use smaller pictures, batches or sides of the input (data.short_side)"
        reason = f" ({shorten(str(error))})" if str(error) else ""
        return f"not enough memory{reason}; {remedy}"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error}: allow more open files (ulimit -n 1024)"
    if isinstance(error, OSError) and error.filename is not None and error.errno in REMEDIES:
        return f"{shorten(str(error.filename))}: {error.strerror}; {REMEDIES[error.errno]}"
    return None


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add --config, --list and -o."""
    parser.add_argument(
        "--config", default=DEFAULT_CONFIG, metavar="N", help=f"number or name of a config (default: {DEFAULT_CONFIG})"
    )
    parser.add_argument("--list", action=_ListConfigs, nargs=0, help="print all configs and exit")
    parser.add_argument(
        "-o",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="change a field of the config, for example -o nms.score_thr=0.2; can be repeated",
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `add_config_options` and --data-root."""
    add_config_options(parser)
    add_data_root_option(parser)


def add_data_root_option(parser: argparse.ArgumentParser) -> None:
    """Add --data-root, whose paths come before those of -o."""
    parser.add_argument(
        "--data-root",
        action=_SetDataRoot,
        default=(),
        type=Path,
        metavar="DIR",
        help=f"folder of the data set in COCO's layout: {', '.join(LAYOUT.values())}; -o changes single paths",
    )


class _SetDataRoot(argparse.Action):
    """Set the paths of the data. The last --data-root replaces earlier ones."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, root: Any, *_: object) -> None:
        own = namespace.overrides[len(namespace.data_root) :]
        namespace.data_root = data_root_overrides(root)
        namespace.overrides = [*namespace.data_root, *own]


def add_field_option(parser: Parser, option: str, path: str, **keywords: Any) -> None:
    """Add an option that is the same as `-o path=VALUE` in its place; its value is also in the namespace."""

    class SetField(argparse.Action):
        def __call__(self, _: object, namespace: argparse.Namespace, value: Any, *__: object) -> None:
            setattr(namespace, self.dest, value)
            namespace.overrides = [*namespace.overrides, f"{path}={value}"]

    parser.add_argument(option, action=SetField, help=f"the same as -o {path}={keywords['metavar']}", **keywords)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default: a GPU if Paddle finds one), cpu, gpu or gpu:0")


def add_weights_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `add_config_options`, --weights and --untrained, for programs that need a trained network."""
    add_config_options(parser)
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="checkpoint to run (default: weights/<config name>.pdparams)",
    )
    parser.add_argument(
        "--untrained",
        type=natural_number,
        metavar="SEED",
        help="run random weights from this seed instead of a checkpoint, to try or to time the program",
    )


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `add_weights_options`, --device, --engine and --precision, for programs that run a network."""
    add_weights_options(parser)
    add_device_option(parser)
    parser.add_argument(
        "--engine",
        choices=("auto", *ENGINES),
        default="auto",
        help="what runs the network: dynamic (Paddle, layer by layer), static (a graph that Paddle compiles once and "
        "caches), onnx (ONNX Runtime) or openvino (OpenVINO); auto (default): dynamic on a GPU; on a CPU onnx or "
        "openvino if installed, otherwise static",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="number format of the network's arithmetic (default: fp32); int8 needs a network of tools/quantize.py",
    )


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_network_options`, without the config, as keyword arguments of `load_predictor`."""
    return {**source_options(args), **engine_options(args)}


def source_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return those of `network_options` that are arguments of `network_source`."""
    return {name: getattr(args, name) for name in ("weights", "overrides", "untrained")}


def engine_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return those of `network_options` that are arguments of `build_predictor`."""
    return {name: getattr(args, name) for name in ("device", "engine", "precision")}


class _ListConfigs(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(list_configs())
        parser.exit()


def config_of(args: argparse.Namespace) -> Config:
    """Load the config that the options of `add_weights_options` name.

    Raises InputError if there is no such config, or both --weights and --untrained are given.
    """
    if args.weights is not None and args.untrained is not None:
        raise InputError("--weights and --untrained cannot be combined; give one of them")
    return load_config(args.config, args.overrides)


def natural_number(text: str, lowest: int = 0) -> int:
    """Parse an integer from `lowest` to 2^63 - 1, as an argument type."""
    if not text.isdecimal() or int(text) < lowest:
        raise argparse.ArgumentTypeError(f"{text!r}: must be an integer >= {lowest}")
    if int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text}: must be below 2^63")
    return int(text)


def named_path(text: str) -> Path:
    """Parse a path, as an argument type: what `type=Path` means in `Parser`.

    An empty name, as of a variable that is not set, would be the current folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("an empty name; give a file or folder")
    return Path(text)


def positive_number(text: str) -> int:
    """Parse an integer from 1 to 2^63 - 1, as an argument type."""
    return natural_number(text, lowest=1)


def fraction(text: str) -> float:
    """Parse a number from 0 to 1, as an argument type."""
    return _number_to(text, 1)


def points(text: str) -> float:
    """Parse a number of percentage points, as an argument type."""
    return _number_to(text, 100)


def _number_to(text: str, limit: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= limit:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 0 to {limit}")
    return value


def input_size(text: str) -> tuple[int, ...]:
    """Parse `480x640` as (height, width) and `dynamic` as (), as an argument type."""
    sides = text.split("x")
    if text == "dynamic":
        return ()
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: must be height x width, for example 480x640, or dynamic")
    return int(sides[0]), int(sides[1])
