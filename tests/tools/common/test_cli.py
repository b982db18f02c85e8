"""What programs print: control characters of names never reach the terminal."""

from __future__ import annotations

import pytest

from config.errors import InputError, printable
from tests.support.programs import run_main
from tools.common.cli import align_columns

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
