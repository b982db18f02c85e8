"""Inputs and outputs of a network as raw .bin files, for boards that run it without this project.

A folder of inputs has a file for each picture, float32 [1, 3, H, W], and index.json: the metadata of the network, and
the path, the size and the size within the input of each picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config.errors import InputError
from config.values import is_list_of
from data.files import atomic_write
from tools.deploy.exported import Metadata, Output, metadata_of

INDEX = "index.json"
LARGEST_PICTURE = 2**30  # pixels, as in data/images.py


@dataclass(frozen=True)
class Entry:
    """A picture of the index. name: of its files, without the suffix; sizes are heights and widths in pixels."""

    name: str
    path: str
    original_size: tuple[int, int]
    resized: tuple[int, int]  # within the padded input

    @property
    def scale(self) -> float:
        return self.resized[0] / self.original_size[0]


def write_array(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as temporary:
        np.ascontiguousarray(array).tofile(temporary)


def write_index(folder: Path, metadata: Metadata, entries: Iterable[Entry]) -> None:
    size = metadata.config.data.fixed_size
    content = {
        "metadata": json.loads(metadata.to_json()),
        "input": {"dtype": "float32", "shape": (1, 3, *size)},
        "pictures": [{**asdict(entry), "scale": entry.scale} for entry in entries],
    }
    with atomic_write(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_index(folder: Path, overrides: Iterable[str] = ()) -> tuple[Metadata, list[Entry]]:
    """Read the index of a folder. Raises InputError if it is missing or was not written by `write_index`."""
    path = folder / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
    entry = Entry(row["name"], row["path"], _size(row["original_size"]), _size(row["resized"]))
    fits = len(size) == 2 and all(side <= limit for side, limit in zip(entry.resized, size))
    is_name = Path(entry.name).name == entry.name and "\0" not in entry.name
    if not (fits and is_name and isinstance(entry.path, str) and math.prod(entry.original_size) <= LARGEST_PICTURE):
        raise ValueError
    return entry


def _size(sides: list[int]) -> tuple[int, int]:
    if not is_list_of(sides, int) or min(sides) < 1:
        raise ValueError
    height, width = sides
    return height, width


def read_outputs(folder: Path, pattern: str, entry: Entry, outputs: Iterable[Output]) -> list[np.ndarray]:
    """Read the arrays of a picture. pattern: the names of their files, with {picture}, {output} and {number}.

    Raises InputError for a file that is missing or has another size.
    """
    return list(_arrays(folder, pattern, entry, outputs))


def _arrays(folder: Path, pattern: str, entry: Entry, outputs: Iterable[Output]) -> Iterator[np.ndarray]:
    for number, output in enumerate(outputs):
        path = folder / pattern.format(picture=entry.name, output=output.name, number=number)
        try:
            values = np.fromfile(path, output.dtype)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); see --names") from None
        if values.size != np.prod(output.shape):
            raise InputError(
                f"{path}: holds {values.size} numbers of {output.dtype}, {output.name} has {output.shape}; write the "
                "outputs as they are, in the order of the memory"
            )
        yield values.reshape(output.shape)
