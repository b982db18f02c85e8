"""The environment variables that importing `model` sets before numpy and Paddle start."""

import os

import pytest

from model.startup import matrix_instructions
from tests.support.programs import run_python

STATED = ("MKL_DEBUG_CPU_TYPE", "OMP_NUM_THREADS")
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
def test_mkl_uses_the_instructions_of_amd_processors(cpuinfo, expected):
    assert matrix_instructions(cpuinfo) == expected


def words_printed_by(program: str, **stated: str) -> list[str]:
    """Return the words that a process prints that imports `model` and runs a line. stated: environment variables."""
    environment = {name: value for name, value in os.environ.items() if name not in STATED} | stated
    done = run_python("-W", "ignore", "-c", f"import model.startup, os; {program}", environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_variables_of_the_user_are_kept():
    assert words_printed_by("print(os.environ['MKL_DEBUG_CPU_TYPE'])", MKL_DEBUG_CPU_TYPE="4") == ["4"]


@pytest.mark.parametrize("script", ["demo", "train", "eval"])
def test_variables_are_set_before_numpy_is_imported(script):
    watch = (
        "import sys; sys.meta_path.insert(0, type('', (), {'find_spec': lambda name, *_: "
        "print('numpy' in sys.modules) if name == 'model.startup' else None}))"
    )
    done = run_python("-W", "ignore", "-c", f"{watch}; import {script}")
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_threads_are_as_many_as_cores_or_as_stated():
    program = "print(model.startup.CPU_THREADS, os.environ.get('OMP_NUM_THREADS'))"
    assert words_printed_by(program) == [str(len(os.sched_getaffinity(0))), "None"]
    assert words_printed_by(program, OMP_NUM_THREADS="3") == ["3", "3"]
    assert words_printed_by(program, OMP_NUM_THREADS="9" * 11)[0] == str(len(os.sched_getaffinity(0)))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one core")
def test_paddle_computes_in_all_threads():
    busy = "[int(open(f'/proc/self/task/{t}/stat').read().split()[13]) > 0 for t in os.listdir('/proc/self/task')]"
    program = f"a = model.startup.paddle.rand([1000, 1000]); [a @ a for _ in range(40)]; print(sum({busy}))"
    assert int(words_printed_by(program)[0]) >= 2
    assert words_printed_by(program, OMP_NUM_THREADS="1") == ["1"]
