"""Who may import whom, and the few rules of style that a linter does not know."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.base import PROJECT

DOORS = ("demo", "train", "eval")
# What each room may import of ours, beside itself.
ROOMS = {
    "config": set(),
    "model": {"config"},
    "data": {"config"},
    "tools": {"config", "model", "data"},
    "convert": {"config", "model", "tools", "data"},
}
OURS = {*ROOMS, *DOORS, "tests"}
# What of others. Rooms that are not named may import what the project depends on.
OTHERS = {"config": set(), "model": {"paddle", "numpy"}}
FORBIDDEN = {"data": {"paddle"}}
NOWHERE = {"torch", "torchvision"}
LONGEST_FILE = 400
LONGEST_DOOR = 80



def own_files() -> list[Path]:
    """Of the project; not those of a user, such as a config for their data, where git knows the difference."""
    folders = [PROJECT / folder for folder in (*ROOMS, "tests")]
    files = {*PROJECT.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))}
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        files &= {PROJECT / name for name in listed.stdout.splitlines()}
    return sorted(files)


FILES = own_files()
SOURCES = {file.relative_to(PROJECT).as_posix(): file.read_text(encoding="utf-8") for file in FILES}
TREES = {name: ast.parse(source, name) for name, source in SOURCES.items()}
PRODUCT = {name: tree for name, tree in TREES.items() if not name.startswith("tests/")}


def imported(tree: ast.Module, room: str) -> set[str]:
    """The first words of all imports, inside of functions too; a relative import is one of the room itself."""
    words = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            words |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            words.add(room if node.level else node.module.partition(".")[0])
    return words


def is_standard(module: str) -> bool:
    """Whether a module belongs to Python itself, which knows that by name from 3.10 on only."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return False
    return not {"site-packages", "dist-packages"} & set(Path(spec.origin).parts)


def forbidden_imports(tree: ast.Module, room: str) -> set[str]:
    """What a file in this room, or a door of this name, imports and may not."""
    words = imported(tree, room) - {room}
    allowed_of_ours = set(ROOMS) if room in DOORS else ROOMS[room]
    wrong = (words & OURS) - allowed_of_ours
    others = {word for word in words - OURS if not is_standard(word)}
    if room in OTHERS:
        wrong |= others - OTHERS[room]
    return wrong | (others & FORBIDDEN.get(room, set()))


@pytest.mark.parametrize("name", PRODUCT)
def test_imports_flow_one_way(name):
    room = name.partition("/")[0].removesuffix(".py")
    assert room in ROOMS or room in DOORS, f"{name} is in no room"
    assert forbidden_imports(TREES[name], room) == set()


@pytest.mark.parametrize("name", [name for name in PRODUCT if name.startswith("convert/")])
def test_conversion_takes_only_small_readers_from_data(name):
    modules = {node.module for node in ast.walk(TREES[name]) if isinstance(node, ast.ImportFrom)}
    of_data = {module for module in modules if module.partition(".")[0] == "data"}
    assert of_data <= {"data.class_lists", "data.files", "data.images"}


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("config", "import numpy", {"numpy"}),
        ("config", "import dataclasses, json\nfrom config.errors import InputError\nfrom . import base", set()),
        ("model", "import cv2\nfrom pycocotools import mask", {"cv2", "pycocotools"}),
        ("model", "def f():\n    from data.images import read_image", {"data"}),
        ("model", "import paddle.nn as nn\nfrom config.base import Config", set()),
        ("data", "import paddle", {"paddle"}),
        ("data", "import numpy, cv2, tools.draw", {"tools"}),
        ("tools", "from convert.names import SOLO\nimport demo", {"convert", "demo"}),
        ("tools", "import paddle, cv2, data, model", set()),
        ("convert", "from data.class_lists import ClassList", set()),
        ("convert", "from tools.checkpoint import save_checkpoint", set()),
        (
            "demo",
            "import train\nfrom tools.predictor import Predictor\nfrom tests.parity import PARITY",
            {"train", "tests"},
        ),
    ],
)
def test_forbidden_imports_are_found(room, source, wrong):
    assert forbidden_imports(ast.parse(source), room) == wrong


def slips(tree: ast.Module) -> Iterator[str]:
    """What is wrong wherever it stands: star imports, torch, sleeping, and `type=bool`, for which "False" is true."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield f"line {node.lineno}: from {node.module} import *"
        if isinstance(node, (ast.Import, ast.ImportFrom)) and imported(ast.Module([node], []), "") & NOWHERE:
            yield f"line {node.lineno}: torch"
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            yield f"line {node.lineno}: time.sleep"
        if isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {a.name for a in node.names}:
            yield f"line {node.lineno}: time.sleep"
        if isinstance(node, ast.keyword) and node.arg == "type" and ast.unparse(node.value) == "bool":
            yield f"line {node.lineno}: type=bool"


@pytest.mark.parametrize("name", TREES)
def test_no_slips(name):
    assert list(slips(TREES[name])) == []


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
def test_slips_are_found(source):
    assert len(list(slips(ast.parse(source)))) == 1


@pytest.mark.parametrize("name", [name for name in PRODUCT if not Path(name).name.startswith("_")])
def test_public_module_says_what_it_is(name):
    """A module of nothing but one class, as the numbered configs are, may leave that to the class."""
    definitions = [node for node in TREES[name].body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    is_one_class = len(definitions) == 1 and isinstance(definitions[0], ast.ClassDef)
    assert ast.get_docstring(definitions[0] if is_one_class else TREES[name])


@pytest.mark.parametrize("room", ROOMS)
def test_room_says_what_it_is(room):
    assert ast.get_docstring(TREES[f"{room}/__init__.py"])


@pytest.mark.parametrize("name", SOURCES)
def test_files_are_short(name):
    is_door = name.removesuffix(".py") in DOORS
    assert len(SOURCES[name].splitlines()) <= (LONGEST_DOOR if is_door else LONGEST_FILE)


def test_files_are_found():
    """The rules above hold for something."""
    assert {"demo.py", "config/base.py", "convert/names.py", "model/head/solov2.py"} <= PRODUCT.keys()
    assert "tests/test_architecture.py" in TREES
