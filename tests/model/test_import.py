"""What importing `model` tells the libraries below Paddle."""

import os
import subprocess
import sys

import pytest

from config.base import PROJECT
from model import matrix_instructions

FLAGS = "flags : fpu sse2 fma avx2 avx512f avx512cd avx512bw avx512dq avx512vl"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (f"vendor_id : AuthenticAMD\n{FLAGS}", "7"),
        (f"vendor_id : AuthenticAMD\n{FLAGS.replace(' avx512vl', '')}", "5"),
        ("vendor_id : AuthenticAMD\nflags : fpu sse2 avx2", None),
        (f"vendor_id : GenuineIntel\n{FLAGS}", None),
        ("", None),
    ],
)
def test_mkl_is_told_of_amds_instructions(cpuinfo, expected):
    assert matrix_instructions(cpuinfo) == expected


def test_what_the_user_says_of_them_stays():
    environment = {**os.environ, "MKL_DEBUG_CPU_TYPE": "4"}
    program = "import model, os; print(os.environ['MKL_DEBUG_CPU_TYPE'])"
    run = [sys.executable, "-W", "ignore", "-c", program]
    found = subprocess.run(run, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["4"]
