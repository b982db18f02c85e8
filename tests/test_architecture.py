"""Imports follow the table of packages, and files follow the rules of style that no linter checks."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.base import PROJECT

ENTRY_POINTS = ("demo", "train", "eval")
COMMON = {"config", "model", "data", "tools/common"}
PREDICT = {*COMMON, "tools/engine", "tools/predict"}
# What the files of each package may import of ours. `tools` are the commands in that folder, not its packages.
MAY_IMPORT = {
    "config": {"config"},
    "model": {"config", "model"},
    "data": {"config", "data"},
    "tools/common": COMMON,
    "tools/engine": {*COMMON, "tools/engine"},
    "tools/predict": PREDICT,
    "tools/dataset": {*COMMON, "tools/dataset"},
    "tools/evaluate": {*PREDICT, "tools/dataset", "tools/evaluate"},
    "tools/train": {*PREDICT, "tools/dataset", "tools/evaluate", "tools/train"},
    "tools/deploy": {*PREDICT, "tools/dataset", "tools/evaluate", "tools/deploy"},
    # The script's option --verify runs the network.
    "convert": {"config", "model", "data", "tools/common", "tools/predict", "convert"},
}
PACKAGES = {*MAY_IMPORT, "tools"}
MAY_IMPORT["tools"] = {package for package in MAY_IMPORT if package != "convert"}
MAY_IMPORT.update(dict.fromkeys(ENTRY_POINTS, MAY_IMPORT["tools"]))
# Libraries, in addition to the standard one, that a package may import; packages without an entry may import any.
LIBRARIES = {"config": set(), "model": {"paddle", "numpy", "numba"}}
FORBIDDEN = {"data": {"paddle"}}
NOWHERE = {"torch", "torchvision"}
LONGEST_FILE = 400
LONGEST_ENTRY_POINT = 80


def own_files() -> list[Path]:
    """Return the files of the project; where git is available, without files that a user added."""
    folders = [PROJECT / folder for folder in (*PACKAGES, "tests")]
    files = {*PROJECT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))}
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        files &= {PROJECT / name for name in listed.stdout.splitlines()}
    return sorted(files)


FILES = own_files()
SOURCES = {file.relative_to(PROJECT).as_posix(): file.read_text(encoding="utf-8") for file in FILES}
TREES = {name: ast.parse(source, name) for name, source in SOURCES.items()}
PRODUCT = {name: tree for name, tree in TREES.items() if not name.startswith("tests/")}


def package_of(name: str) -> str:
    """Return the package of a file or a dotted module: `tools/engine`, `tools`, `model`, `demo` ..."""
    parts = name.removesuffix(".py").removesuffix("/__init__").replace(".", "/").split("/")
    return next((package for package in ("/".join(parts[:2]), parts[0]) if package in PACKAGES), parts[0])


def imported(tree: ast.Module) -> set[str]:
    """Return all imported names, also those inside functions, with their modules: `model.layers.Conv2D`."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def is_standard(module: str) -> bool:
    """Return whether a module belongs to Python itself, which lists them only since 3.10."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return False
    return not {"site-packages", "dist-packages"} & set(Path(spec.origin).parts)


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in {*ENTRY_POINTS, "tests", *(package.partition("/")[0] for package in PACKAGES)}


def forbidden_imports(tree: ast.Module, package: str) -> set[str]:
    """Return what a file of this package, or an entry point of this name, imports but may not."""
    modules = imported(tree)
    startup = {"model.startup", "model.startup.startup"}  # each package imports it first
    ours = {package_of(module) for module in modules - startup if is_ours(module)}
    wrong = ours - MAY_IMPORT[package]
    others = {module.partition(".")[0] for module in modules if not is_ours(module)}
    libraries = {word for word in others if not is_standard(word)}
    if package in LIBRARIES:
        wrong |= libraries - LIBRARIES[package]
    return wrong | (libraries & FORBIDDEN.get(package, set()))


@pytest.mark.parametrize("name", PRODUCT)
def test_imports_follow_the_table(name):
    package = package_of(name)
    assert package in MAY_IMPORT, f"{name} is in no package of the table"
    assert forbidden_imports(TREES[name], package) == set()


def test_no_import_cycles():
    """No file imports, directly or through others, a file that imports it."""
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in PRODUCT}
    arrows = {
        name: {
            modules[module]
            for word in imported(tree)
            for module in (word, word.rpartition(".")[0])
            if module in modules
        }
        for name, tree in PRODUCT.items()
    }
    arrows = {name: targets - {name, *startup_files()} for name, targets in arrows.items()}
    while leaves := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert sorted(arrows) == []


def startup_files() -> set[str]:
    """Return the files that run first whenever one of our packages is imported."""
    return {"model/startup.py", "model/__init__.py", "tools/__init__.py", "convert/__init__.py"}


PROGRAMS = [name for name in PRODUCT if "from tools.common.startup import run\n" in SOURCES[name]]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_import_startup_first(name):
    """Until then Ctrl-C prints a traceback. Programs in folders need `sys` and `Path` to find the project."""
    imports = [node for node in TREES[name].body if isinstance(node, (ast.Import, ast.ImportFrom))]
    before = [ast.unparse(node) for node in imports]
    before = before[: before.index("from tools.common.startup import run")]
    assert set(before) <= {"from __future__ import annotations", "import sys", "from pathlib import Path"}


@pytest.mark.parametrize("name", [name for name in PRODUCT if name.startswith("convert/")])
def test_conversion_takes_only_small_readers_from_data(name):
    of_data = {module.rpartition(".")[0] for module in imported(TREES[name]) if module.startswith("data.")}
    assert of_data <= {"data.class_lists", "data.files", "data.images", "data.addresses", "data.written"}


@pytest.mark.parametrize(
    ("package", "source", "wrong"),
    [
        ("config", "import numpy", {"numpy"}),
        ("config", "import dataclasses, json\nfrom config.errors import InputError\nfrom . import base", set()),
        ("model", "import cv2\nfrom pycocotools import mask", {"cv2", "pycocotools"}),
        ("model", "def f():\n    from data.images import read_image", {"data"}),
        ("model", "import paddle.nn as nn\nfrom config.base import Config", set()),
        ("data", "import paddle", {"paddle"}),
        ("data", "import numpy, cv2, tools.export", {"tools"}),
        ("tools", "from convert.names import SOLO\nimport demo", {"convert", "demo"}),
        ("tools", "import paddle, cv2, data, model\nfrom tools.train import trainer", set()),
        ("tools/common", "from tools.engine.graph_cache import key_of", {"tools/engine"}),
        ("tools/engine", "from tools.predict import load", {"tools/predict"}),
        ("tools/predict", "from tools.export import main\nimport tools.evaluate.report", {"tools", "tools/evaluate"}),
        ("tools/train", "from tools.evaluate.report import write_report", set()),
        ("convert", "from data.class_lists import ClassList", set()),
        ("convert", "from tools.common.checkpoint import save_checkpoint", set()),
        (
            "demo",
            "import train\nfrom tools.predict.load import Predictor\nfrom tests.support.parity import PARITY",
            {"train", "tests"},
        ),
    ],
)
def test_forbidden_imports_are_found(package, source, wrong):
    assert forbidden_imports(ast.parse(source), package) == wrong


def forbidden_statements(tree: ast.Module) -> Iterator[str]:
    """Yield what no file may contain: star imports, torch, time.sleep, and `type=bool`, which takes "False" as true."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield f"line {node.lineno}: from {node.module} import *"
        if (
            isinstance(node, (ast.Import, ast.ImportFrom))
            and {module.partition(".")[0] for module in imported(ast.Module([node], []))} & NOWHERE
        ):
            yield f"line {node.lineno}: torch"
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            yield f"line {node.lineno}: time.sleep"
        if isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {a.name for a in node.names}:
            yield f"line {node.lineno}: time.sleep"
        if isinstance(node, ast.keyword) and node.arg == "type" and ast.unparse(node.value) == "bool":
            yield f"line {node.lineno}: type=bool"


@pytest.mark.parametrize("name", TREES)
def test_no_forbidden_statements(name):
    assert list(forbidden_statements(TREES[name])) == []


@pytest.mark.parametrize(
    "source",
    [
        "from model.layers import *",
        "import torch.nn as nn",
        "from torchvision import ops",
        "import time\ntime.sleep(1)",
        "from time import sleep",
        "parser.add_argument('--use_gpu', type=bool)",
    ],
)
def test_forbidden_statements_are_found(source):
    assert len(list(forbidden_statements(ast.parse(source)))) == 1


@pytest.mark.parametrize("name", [name for name in PRODUCT if not Path(name).name.startswith("_")])
def test_public_module_says_what_it_is(name):
    """A module with a single class, such as a numbered config, may leave that to the class."""
    definitions = [node for node in TREES[name].body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    is_one_class = len(definitions) == 1 and isinstance(definitions[0], ast.ClassDef)
    assert ast.get_docstring(definitions[0] if is_one_class else TREES[name])


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_package_says_what_it_is(package):
    assert ast.get_docstring(TREES[f"{package}/__init__.py"])


@pytest.mark.parametrize("name", SOURCES)
def test_files_are_short(name):
    is_entry_point = name.removesuffix(".py") in ENTRY_POINTS
    assert len(SOURCES[name].splitlines()) <= (LONGEST_ENTRY_POINT if is_entry_point else LONGEST_FILE)


def test_files_are_found():
    """The rules above are applied to our files."""
    assert {"demo.py", "config/base.py", "convert/names.py", "model/head/solov2.py"} <= PRODUCT.keys()
    assert "tests/test_architecture.py" in TREES
