"""Programs print names without control characters, and one line if the memory does not suffice."""

from __future__ import annotations

import errno
import signal
import tempfile
from contextlib import ExitStack

import cv2
import numpy as np
import pytest

from config.errors import InputError, printable
from data.files import temporary_folder
from tests.support.programs import run_main
from tools.common.cli import Parser, add_data_options, add_field_option
from tools.common.config_table import align_columns
from tools.common.signals import STOP_SIGNALS

RED = "\x1b[31mred\x9b2J"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Größe, 大, 👩\u200d🚒\tx", "plain, Größe, 大, 👩\u200d🚒\tx"),
        ("two\nlines\r\nthree", "two lines three"),
        (RED, r"\x1b[31mred\x9b2J"),
        ("a\x00b\x07c\x7f", r"a\x00b\x07c\x7f"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udcff \ud83d", r"\xff \ud83d"),
    ],
)
def test_control_characters_become_escapes(text, shown):
    assert printable(text) == shown
    shown.encode()


def test_programs_print_no_control_characters():
    def main() -> int:
        print(f"first {RED}", "second", sep="\n")
        raise InputError(f"{RED}: bad")

    done = run_main(main)
    assert done.stdout == "first \\x1b[31mred\\x9b2J\nsecond\n"
    assert (done.returncode, done.stderr) == (2, "test_cli.py: error: \\x1b[31mred\\x9b2J: bad\n")


def test_a_name_with_a_line_break_stays_in_its_row():
    assert align_columns([("a\nb", "1"), ("c", "2")]) == "a b  1\nc    2"


def allocate_by_numpy() -> None:
    np.zeros((2**25, 2**25))


def allocate_by_opencv() -> None:
    cv2.resize(np.zeros((1, 1, 3), np.uint8), (2**30, 2**30))


def fail_like_onednn() -> None:
    raise RuntimeError("could not create a memory object")


def fail_like_a_thread() -> None:
    raise RuntimeError("can't start new thread")


def fail_like_a_system_call() -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize(
    "allocate", [allocate_by_numpy, allocate_by_opencv, fail_like_onednn, fail_like_a_thread, fail_like_a_system_call]
)
def test_too_little_memory_is_one_line(allocate):
    def main() -> int:
        allocate()
        return 0

    done = run_main(main)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("test_cli.py: error: not enough memory (")
    assert "data.short_side" in done.stderr


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_a_program_without_leftovers(number, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def main() -> int:
        with temporary_folder() as folder:
            assert folder.parent == tmp_path
            signal.raise_signal(number)
        return 0

    says = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    assert run_main(main) == (128 + number, "", f"{says}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows does not signal the end of a terminal")
def test_a_terminal_that_is_closed_may_send_its_signal_twice():
    cleaned = []

    def main() -> int:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGHUP)
            cleaned.append(True)
        return 0

    assert run_main(main).returncode == 129 and cleaned


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def main() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert run_main(main) == (0, "", "")


def test_ctrl_c_that_a_library_turns_into_another_error_is_quiet():
    def main() -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy._core.multiarray failed to import") from None
        return 0

    assert run_main(main) == (130, "", "interrupted\n")


def test_too_many_open_files_are_one_line(tmp_path):
    def main() -> int:
        with ExitStack() as files:
            while True:
                files.enter_context((tmp_path / "a").open("w"))

    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        done = run_main(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert done.returncode == 2 and "allow more open files (ulimit -n 1024)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_name_that_is_too_long_is_one_line(tmp_path):
    done = run_main(lambda: (tmp_path / ("a" * 300)).exists())
    assert done.returncode == 2 and done.stderr.endswith(": File name too long; give a shorter name\n")
    assert len(done.stderr) < 300


def test_a_folder_that_may_not_be_searched_is_one_line(tmp_path):
    def main() -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "photos"))

    says = f"{tmp_path / 'photos'}: Permission denied; change the permissions or give another path"
    done = run_main(main)
    assert done.returncode == 2 and done.stderr.endswith(f"error: {says}\n")


def test_other_errors_keep_their_traceback():
    def main() -> int:
        raise cv2.error("another one")

    with pytest.raises(cv2.error, match="another one"):
        run_main(main)


def overrides_of(*options: str) -> list[str]:
    parser = Parser("")
    add_data_options(parser)
    add_field_option(parser, "--seed", "train_cfg.seed", type=int, metavar="S")
    return parser.parse_args(options).overrides


def test_the_last_of_two_ways_to_set_a_field_counts():
    seed = "train_cfg.seed=1"
    assert overrides_of("--seed=2", "-o", seed) == ["train_cfg.seed=2", seed]
    assert overrides_of("-o", seed, "--seed=2") == [seed, "train_cfg.seed=2"]


def test_the_last_root_of_the_data_counts_and_comes_before_single_fields(tmp_path):
    own = ("-o", "val_path=own.json")
    expected = overrides_of(f"--data-root={tmp_path}", *own)
    assert expected[-1] == "val_path=own.json" and len(expected) > 2
    assert overrides_of("--data-root=other", *own, f"--data-root={tmp_path}") == expected
