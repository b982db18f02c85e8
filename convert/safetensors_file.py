"""Read the safetensors format: the length of a JSON header, the header, the bytes of the tensors."""

from __future__ import annotations

import json
import struct
from mmap import mmap
from pathlib import Path

import numpy as np

from config.errors import InputError
from convert.array_bytes import BFLOAT16, map_file, stored_bytes, view_array
from tools.common.safe_pickle import one_line

_MAX_HEADER_BYTES = 100_000_000  # the limit of the format
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": BFLOAT16,
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def is_safetensors(head: bytes) -> bool:
    """Return whether the first bytes of a file, at least 9, are a valid header length and the start of JSON."""
    return head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] <= _MAX_HEADER_BYTES


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read all tensors in the order of the header; bfloat16 as float32, the others as views of the file.

    Raises InputError if there are no tensors, ValueError for an unsupported element type or if header and file
    disagree.
    """
    data = map_file(path)
    start = 8 + struct.unpack_from("<Q", data)[0]
    if start > len(data):
        raise ValueError("it ends within its header")
    header = json.loads(data[8:start])
    arrays = {name: _view_tensor(data, start, name, entry) for name, entry in header.items() if name != "__metadata__"}
    if not arrays:
        raise InputError(f"{path}: has no tensors; give a checkpoint of a network")
    return arrays


def _view_tensor(data: mmap, start: int, name: str, entry: object) -> np.ndarray:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the header does not describe {one_line(name)}")
    kind, shape, offsets = _DTYPES.get(str(entry["dtype"])), entry["shape"], entry["data_offsets"]
    if kind is None:
        raise ValueError(f"{one_line(name)} has the element type {one_line(entry['dtype'])}")
    if not all(isinstance(sizes, list) and all(type(n) is int and n >= 0 for n in sizes) for sizes in (shape, offsets)):
        raise ValueError(f"shape and offsets of {one_line(name)} are not integers")
    if len(offsets) != 2 or offsets[1] - offsets[0] != stored_bytes(kind, shape):
        raise ValueError(f"shape and offsets of {one_line(name)} disagree")
    return view_array(data, kind, shape, offset=start + offsets[0])
