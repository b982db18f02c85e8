"""Inputs and outputs of a network as raw .bin files, for boards that run it without this project.

A folder of inputs has a file for each picture, float32 [1, 3, H, W], and two lists of them. index.json: the metadata of
the network, and the path, the size and the size within the input of each picture. inputs.txt, for programs of boards: a
line for each picture with its number from 0, its file, and the width and height of the input.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config.errors import InputError
from config.values import is_list_of
from data.files import open_regular, read_text
from data.preprocess import fitted_size
from data.written import write_output
from tools.deploy.exported import Metadata, Output, metadata_of

INDEX = "index.json"
INPUT_LIST = "inputs.txt"
LARGEST_PICTURE = 2**30  # pixels, as in data/images.py
_ROUNDING = 0.02  # how far scores may leave 0 to 1 on a device that computes in few bits


@dataclass(frozen=True)
class Entry:
    """A picture of the index. name: of its files, without the suffix; sizes are heights and widths in pixels."""

    name: str
    path: str
    original_size: tuple[int, int]
    resized: tuple[int, int]  # within the padded input
    image_id: int  # of `tools.predict.pipeline.image_ids`, with the pictures that could not be read

    @property
    def scale(self) -> float:
        return self.resized[0] / self.original_size[0]


def write_array(path: Path, array: np.ndarray) -> None:
    with write_output(path) as temporary:
        temporary.write_bytes(np.ascontiguousarray(array).data)  # `tofile` would not say why it fails


def write_index(folder: Path, metadata: Metadata, entries: Sequence[Entry]) -> None:
    """Write both lists of the inputs in a folder."""
    size = metadata.config.data.fixed_size
    content = {
        "metadata": json.loads(metadata.to_json()),
        "input": {"dtype": "float32", "shape": (1, 3, *size)},
        "pictures": [{**asdict(entry), "scale": entry.scale} for entry in entries],
    }
    with write_output(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    height, width = size
    lines = [f"{number} {folder / entry.name}.bin {width} {height}\n" for number, entry in enumerate(entries)]
    with write_output(folder / INPUT_LIST) as temporary:
        temporary.write_bytes(os.fsencode("".join(lines)))  # names need not be UTF-8


def read_index(folder: Path, overrides: Iterable[str] = ()) -> tuple[Metadata, list[Entry]]:
    """Read the index of a folder. Raises InputError if it is missing or was not written by `write_index`."""
    path = folder / INDEX
    try:
        content = json.loads(read_text(path))
        metadata = metadata_of(json.dumps(content["metadata"]), path, overrides)
        entries = [_entry(row, metadata.config.data.fixed_size) for row in content["pictures"]]
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); tools/preprocess_inputs_to_bin.py writes it"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{path}: was not written by tools/preprocess_inputs_to_bin.py; write it again") from None
    return metadata, entries


def _entry(row: Mapping[str, Any], size: tuple[int, ...]) -> Entry:
    """Return an item of the index. size: of the network's input. Raises ValueError for one that makes no sense."""
    entry = Entry(row["name"], row["path"], _size(row["original_size"]), _size(row["resized"]), row["image_id"])
    fits = len(size) == 2 and all(side <= limit for side, limit in zip(entry.resized, size))
    # OpenCV's own rounding, where it resizes by a factor, may differ by a pixel.
    fits = fits and np.abs(np.subtract(entry.resized, fitted_size(*entry.original_size, size))).max() <= 1
    fits = fits and isinstance(entry.image_id, int)
    is_name = Path(entry.name).name == entry.name and "\0" not in entry.name
    if not (fits and is_name and isinstance(entry.path, str) and math.prod(entry.original_size) <= LARGEST_PICTURE):
        raise ValueError
    return entry


def _size(sides: list[int]) -> tuple[int, int]:
    if not is_list_of(sides, int) or min(sides) < 1:
        raise ValueError
    height, width = sides
    return height, width


@dataclass(frozen=True)
class OutputFiles:
    """The files that a device wrote: an array for each output of each picture.

    pattern: their names, with {picture}, {output} and {number}; first_number: the number of the first output.
    shares: the outputs whose values are 0 to 1.
    """

    folder: Path
    pattern: str
    first_number: int
    outputs: tuple[Output, ...]
    shares: tuple[str, ...] = ()

    def paths(self, entry: Entry) -> list[Path]:
        return [
            self.folder / self.pattern.format(picture=entry.name, output=output.name, number=number)
            for number, output in enumerate(self.outputs, start=self.first_number)
        ]

    def missing(self, entry: Entry) -> Path | None:
        """Return the first file of a picture that does not exist."""
        return next((path for path in self.paths(entry) if not path.exists()), None)

    def read(self, entry: Entry) -> list[np.ndarray]:
        """Read the arrays of a picture.

        Raises InputError for a file that cannot be read, has another size, or values that cannot be.
        """
        arrays = []
        for path, output in zip(self.paths(entry), self.outputs):
            array = _read_array(path, output)
            if output.name in self.shares and abs(array - 0.5).max(initial=0) > 0.5 + _ROUNDING:
                raise InputError(
                    f"{path}: has {output.name} from {array.min():g} to {array.max():g}, beyond 0 to 1; write the "
                    f"outputs as they are, with the names in {INDEX}"
                )
            arrays.append(array)
        return arrays


def _read_array(path: Path, output: Output) -> np.ndarray:
    try:
        with open_regular(path) as stream:
            values = np.fromfile(stream, output.dtype)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); copy it again") from None
    if values.size != np.prod(output.shape):
        raise InputError(
            f"{path}: holds {values.size} numbers of {output.dtype}, {output.name} has {output.shape}; write the "
            "outputs as they are, in the order of the memory"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{path}: has values that are not finite numbers; run the network again")
    return values.reshape(output.shape)
