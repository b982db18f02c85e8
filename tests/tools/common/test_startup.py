"""Every program imports startup first, ends quietly at Ctrl-C, and starts without modules that only Unix has."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys

import pytest

from config.base import PROJECT
from tests.support.programs import python_command, run_python

WITHOUT_UNIX = """
import runpy, sys
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp"), None))  # importing them raises ImportError
sys.argv = [sys.argv[1], "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
*sys.argv, module = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("demo.py", "ctypes"),
        ("demo.py", "paddle"),
        ("train.py", "tools.common.cli"),
        ("tools/labelme2coco.py", "base64"),
        ("tools/labelme2coco.py", "numpy"),
        ("tools/export.py", "tempfile"),
        ("tools/check_dataset.py", "tqdm"),
        ("convert/vovnet2paddle.py", "dataclasses"),
    ],
)
def test_ctrl_c_during_an_import_is_quiet(program, module):
    done = run_python("-c", INTERRUPTED, program, module)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")  # status 130 in a shell


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
@pytest.mark.parametrize(
    ("before", "status", "printed"),
    [
        ("", -signal.SIGTERM, ""),  # status 143 in a shell
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", 0, "goes on\n"),
        ("signal.signal(signal.SIGTERM, lambda *_: print('own handler'))", 0, "own handler\ngoes on\n"),
    ],
)
def test_sigterm_is_handled_as_without_paddle_which_prints_its_stack(before, status, printed):
    code = f"import os, signal\n{before}\nimport tools.predict.load\nos.kill(os.getpid(), signal.SIGTERM)"
    assert run_python("-c", f"{code}\nprint('goes on')") == (status, printed, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")
@pytest.mark.parametrize("module", ["numpy", "paddle", "paddle.vision", "tools.common.cli"])
def test_sigterm_during_an_import_is_quiet(module):
    done = run_python("-c", INTERRUPTED.replace("SIGINT", "SIGTERM"), "demo.py", module)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has another shell, and keeps folders in use")
@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("exec demo.py --list >&-", 0, ""),
        ("HOME=/dev/null exec demo.py --list", 2, "demo.py: error: the home folder /dev/null is no folder; set HOME"),
        ("HOME=/dev/null/a exec demo.py --list", 2, "the home folder /dev/null/a is no folder; set HOME to one"),
        ("mkdir gone && cd gone && rmdir ../gone && exec demo.py", 2, "demo.py: error: the current folder has been"),
    ],
)
def test_a_shell_without_output_or_folder(tmp_path, command, status, says):
    program = shlex.join(python_command(PROJECT / "demo.py"))
    command = command.replace("demo.py", program, 1)
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("sh: ")]  # the shell complains too
    assert (done.returncode, len(lines)) == (status, int(bool(says)))
    assert says in done.stderr


def test_a_program_that_is_imported_leaves_the_handler_of_ctrl_c():
    code = "import signal, tools.check_dataset; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = run_python("-c", code)
    assert (done.returncode, done.stdout) == (0, "True\n")


def test_a_program_is_imported_by_another_thread():
    code = (
        "import threading; t = threading.Thread(target=__import__, args=('tools.check_dataset',)); t.start(); t.join()"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("program", ["demo.py", "train.py", "eval.py"])
def test_programs_start_without_modules_that_only_unix_has(program):
    done = run_python("-c", WITHOUT_UNIX, program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {program}")


STUCK = """
import runpy, sys, threading, time
from config.errors import InputError
from tools.common import cli

def fail():
    threading.Thread(target=time.sleep, args=(100,)).start()  # as a thread of a library that waits for ever
    raise InputError("fails")

cli.GRACE_PERIOD = 1
sys.exit(cli.run(fail, ends_process=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no alarms")
def test_a_thread_that_never_ends_does_not_keep_a_failed_program():
    done = run_python("-c", STUCK, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGALRM, "-c: error: fails\n")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit memory differently")
def test_a_small_limit_of_memory_is_one_line():
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)); import model.startup"
    done = run_python("-c", code)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "-c: error: not enough memory: the limit is 953 MiB; raise it with ulimit -v 1331200 or more\n"
    )


@pytest.mark.parametrize(("program", "package"), [("demo.py", "tqdm"), ("tools/labelme2coco.py", "cv2")])
def test_a_package_that_is_not_installed_is_one_line(tmp_path, program, package):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module', name={package!r})")
    done = run_python(program, "--help", environment={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    says = f"the package {package} is not installed; pip install '.[cpu]'"
    assert done.stderr == f"{program.rpartition('/')[2]}: error: {says}\n"
