"""Exported networks for tests, a device that runs them on raw .bin files, and Python without Paddle."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from filelock import FileLock

from config import load_config
from config.base import Config
from data.images import find_images
from tests.support import tiny
from tests.support.programs import Finished, override_options, run_main, run_python
from tools import export, postprocess_bin_outputs, preprocess_inputs_to_bin
from tools.deploy.exported import open_exported
from tools.engine.select import foreign_translator

SIZE = (64, 96)  # height and width of exports with fixed size
BOXES = "centermask2"
FOLDER = Path()  # of exported networks; tests/conftest.py sets it
OVERRIDES = (*tiny.OVERRIDES, "nms.score_thr=0.02")  # so high that fewer pairs pass than there are candidates

# What docs/deployment.md states as enough to predict without Paddle, by the names of their modules.
RAW_FILES = ("numpy", "cv2", "PIL", "pycocotools", "tqdm")
PREDICTION = (*RAW_FILES, "onnxruntime")

# Python runs this before anything else. It hides all other packages, as if they were not installed.
SITE = """
import sys
from importlib.machinery import PathFinder


class StatedOnly:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        installed = any("site-packages" in (place or "") for place in places)
        return None if installed and name.partition(".")[0] not in {stated} else spec


sys.meta_path[sys.meta_path.index(PathFinder)] = StatedOnly
"""


def reason_for_none() -> str:
    """Return why nothing can be exported to ONNX here, or "" if it can."""
    packages = (*export.EXPORT_PACKAGES, "onnxruntime")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else foreign_translator()


needs_onnx = pytest.mark.skipif(bool(reason_for_none()), reason=reason_for_none() or "-")


def config_of(kind: str, *overrides: str) -> Config:
    if kind == BOXES:
        return load_config(tiny.CENTERMASK2, [*tiny.CENTERMASK2_OVERRIDES, *overrides])
    return load_config(tiny.CONFIG, [*OVERRIDES, f"head.kind={kind}", *overrides])


@cache
def exported(*options: str, format: str = "onnx", overrides: tuple[str, ...] = OVERRIDES) -> Path:  # noqa: A002
    """Export a tiny grid network with tools/export.py and these further options; return the cached file."""
    folder = FOLDER / f"{crc32(repr((options, format, overrides)).encode()):08x}"
    path = folder / ("network.onnx" if format == "onnx" else "network")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "complete").exists():
            rest = f"--format={format}", f"--output={path}", *options
            if not any(option.startswith("--weights") for option in options):
                rest = "--untrained=0", *rest
            status, out, err = run_main(export.main, f"--config={tiny.CONFIG}", *override_options(*overrides), *rest)
            assert status == 0, err
            assert str(path) in out
            (folder / "complete").touch()
    return path


def of_kind(kind: str, *options: str, format: str = "onnx") -> Path:  # noqa: A002
    """Export the tiny network of this kind and return the file; CenterMask2 needs --end-to-end."""
    if kind == BOXES:
        number = f"--config={tiny.CENTERMASK2}"
        return exported(number, *options, format=format, overrides=tiny.CENTERMASK2_OVERRIDES)
    return exported("-o", f"head.kind={kind}", *options, format=format)


def run_python_without_paddle(folder: Path, *arguments: object, packages: tuple[str, ...] = PREDICTION) -> Finished:
    """Run Python as on a machine that has only these packages. folder: where the module that hides others is written.

    packages: names of modules.
    """
    (folder / "sitecustomize.py").write_text(SITE.replace("{stated}", repr(packages)))
    return run_python(*arguments, environment={**os.environ, "PYTHONPATH": str(folder)})


def on_board(model: Path, inputs: Path, outputs: Path, names: str, first_number: int = 0) -> None:
    """Run a model on raw .bin files, as the program of a device does. first_number: of the outputs."""
    outputs.mkdir()
    session = open_exported(model)
    index = json.loads((inputs / "index.json").read_text())
    for picture in index["pictures"]:
        images = np.fromfile(inputs / f"{picture['name']}.bin", index["input"]["dtype"])
        found = session.run(None, {"images": images.reshape(index["input"]["shape"])})
        for number, (value, array) in enumerate(zip(session.get_outputs(), found), start=first_number):
            array.tofile(outputs / names.format(picture=picture["name"], output=value.name, number=number))


def by_files(model: Path, data: Path, folder: Path) -> str:
    """Evaluate a model through raw .bin files; return the output. data: with `images` and `annotations.json`."""
    inputs, outputs = folder / "inputs", folder / "outputs"
    status, out, err = run_main(preprocess_inputs_to_bin.main, model, data / "images", "--output", inputs)
    assert status == 0, err
    assert f"wrote {len(find_images([data / 'images']))} pictures" in out
    on_board(model, inputs, outputs, postprocess_bin_outputs.NAMES)
    annotations = "--annotations", data / "annotations.json", "--pictures", data / "images"
    results = "--json", folder / "results.json"
    status, out, err = run_main(postprocess_bin_outputs.main, inputs, outputs, *results, *annotations)
    assert status == 0, err
    return out


def average_precisions(text: str) -> list[float]:
    """Return the numbers, in percent, of a printed evaluation."""
    return [float(number) for number in re.findall(r"\d+\.\d+", text[text.index("\n") :])]
