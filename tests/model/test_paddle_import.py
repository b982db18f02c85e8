"""Paddle 2.6's library exports zlib's symbols, and what binds to them crashes; importing ours first must prevent that.

Without the guard in `model/startup.py`, a fresh process with Paddle 2.6.2 ends at its first decompression:

    $ python -c "import paddle, zlib; zlib.decompress(zlib.compress(b''))"
    FatalError: `Segmentation fault` is detected by the operating system.

So do the programs below without the guard's lines about zlib (exit status -11). With `import zlib` alone they survive
where zlib is a shared library of its own, which binds as it is loaded; where it is linked into Python it binds at its
first call, so a call is demanded. Paddle 3 is not affected and passes either way.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from config.base import PROJECT
from tests.support.programs import Finished, run_python

PACKAGES = ("config", "convert", "data", "model", "tools")

# Imports the module in its argument, decompresses in every way that we know, and does the same in a new process.
PROGRAM = """
import importlib
import multiprocessing
import sys

def exercise(module):
    importlib.import_module(module)
    import gzip, io, zipfile, zlib
    import numpy
    import PIL.Image

    data = bytes(range(256)) * 64
    assert zlib.decompress(zlib.compress(data)) == data
    assert gzip.decompress(gzip.compress(data)) == data
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", data)
    with zipfile.ZipFile(packed) as archive:
        assert archive.read("data") == data
    picture = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), (7, 8, 9)).save(picture, format="png")
    assert PIL.Image.open(picture).convert("RGB").getpixel((39, 29)) == (7, 8, 9)
    assert 0 <= numpy.random.default_rng(0).random() < 1
    print("survived", flush=True)

if __name__ == "__main__":
    exercise(sys.argv[1])
    worker = multiprocessing.get_context("spawn").Process(target=exercise, args=sys.argv[1:])
    worker.start()
    worker.join()
    sys.exit(worker.exitcode)
"""


@pytest.mark.parametrize("module", ["config", "data", "model", "tools.predict.load", "convert.conversion", "demo"])
def test_decompression_after_importing_our_modules(module, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run_file(program, module)
    assert (done.returncode, done.stdout) == (0, "survived\nsurvived\n"), done.stderr


# Imports each module, and runs each file that is a program too, as if it were the first of ours in its process, up to
# the place where Paddle would be loaded. Prints those before which zlib was not called.
FIRST_IMPORTS = """
import importlib
import json
import runpy
import sys
import zlib
from pathlib import Path

import cv2, numpy.random, PIL.Image  # a call of theirs does not count

class PaddleReached(BaseException):
    pass

class PaddleFinder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "paddle":
            raise PaddleReached

def decompress(*args, **options):
    global is_bound
    is_bound = True
    return original(*args, **options)

original, zlib.decompress = zlib.decompress, decompress
sys.meta_path.insert(0, PaddleFinder())
packages, files = json.loads(sys.argv[1]), json.loads(sys.argv[2])
before = set(sys.modules)
reached, unguarded = 0, []
for file in files:
    name = file[: -len(".py")].replace("/", ".").replace(".__init__", "")
    starts = [lambda: importlib.import_module(name)]
    if "__main__" in Path(file).read_text(encoding="utf-8"):
        starts.append(lambda: runpy.run_path(file, run_name="program"))
    for start in starts:
        for ours in [m for m in sys.modules if m.partition(".")[0] in packages]:
            del sys.modules[ours]
        is_bound = False
        try:
            start()
        except PaddleReached:
            reached += 1
            if not is_bound:
                unguarded.append(file)
print(json.dumps([reached, unguarded]))
"""


def test_every_module_calls_zlib_before_it_loads_paddle(tmp_path):
    """A linter may sort `import paddle` above our own imports; the guard must still come first."""
    files = [*PROJECT.glob("*.py"), *(file for package in PACKAGES for file in (PROJECT / package).rglob("*.py"))]
    reached, unguarded = first_imports(PROJECT, files, tmp_path)
    assert unguarded == []
    assert reached > len(files) // 3  # or else nothing was tested


def test_import_of_paddle_ahead_of_ours_is_noticed(tmp_path):
    (tmp_path / "tools").mkdir()
    bad, good = tmp_path / "tools" / "bad.py", tmp_path / "good.py"
    bad.write_text("import paddle\n")
    good.write_text("import zlib\nzlib.decompress(zlib.compress(b''))\nimport paddle\n")
    assert first_imports(tmp_path, [bad, good], tmp_path) == (2, ["tools/bad.py"])


def first_imports(folder: Path, files: list[Path], tmp_path: Path) -> tuple[int, list[str]]:
    """Return how often Paddle was reached, and the files that reach it before zlib was called."""
    names = json.dumps([file.relative_to(folder).as_posix() for file in files])
    program = tmp_path / "first_imports.py"
    program.write_text(FIRST_IMPORTS)
    done = run_file(program, json.dumps(PACKAGES), names, folder=folder)
    assert done.returncode == 0, done.stderr
    reached, unguarded = json.loads(done.stdout)
    return reached, unguarded


def run_file(program: Path, *arguments: str, folder: Path = PROJECT) -> Finished:
    """Run a file in a process of its own that imports modules from `folder`."""
    return run_python(program, *arguments, cwd=folder, environment={**os.environ, "PYTHONPATH": str(folder)})
