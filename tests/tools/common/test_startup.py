"""What every program does before its `main`."""

from __future__ import annotations

import pytest

from tests.support.programs import run_python

WITHOUT_UNIX = """
import runpy, sys
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp"), None))  # importing them raises ImportError
sys.argv = [sys.argv[1], "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("program", ["demo.py", "train.py", "eval.py"])
def test_programs_start_without_modules_that_only_unix_has(program):
    done = run_python("-c", WITHOUT_UNIX, program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {program}")
