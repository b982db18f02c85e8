"""The safetensors format: the length of a JSON header, the header, the bytes of the tensors."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from config.errors import InputError
from convert.array_bytes import BFLOAT16, map_file, stored_bytes, view_array
from tools.common.safe_pickle import one_line

_MAX_HEADER_BYTES = 100_000_000
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
    """Whether the first 9 bytes of a file are a length that the format permits and the start of a JSON header."""
    return head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] <= _MAX_HEADER_BYTES


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read every tensor, in the order of the header; bfloat16 as float32, the others view the file.

    Raises InputError for an element type numpy does not have, ValueError where header and file disagree.
    """
    data = map_file(path)
    start = 8 + struct.unpack_from("<Q", data)[0]
    if start > len(data):
        raise ValueError("it ends inside of its header")
    header = json.loads(data[8:start])
    arrays = {name: _view_tensor(data, start, name, entry) for name, entry in header.items() if name != "__metadata__"}
    if not arrays:
        raise InputError(f"{path}: holds no tensors; give a checkpoint of a network")
    return arrays


def _view_tensor(data: bytes, start: int, name: str, entry: object) -> np.ndarray:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the header does not describe {one_line(name)}")
    kind, shape, offsets = _DTYPES.get(str(entry["dtype"])), entry["shape"], entry["data_offsets"]
    if kind is None:
        raise ValueError(f"{one_line(name)} has the element type {one_line(entry['dtype'])}")
    if not all(isinstance(sizes, list) and all(type(n) is int and n >= 0 for n in sizes) for sizes in (shape, offsets)):
        raise ValueError(f"{one_line(name)} has no whole numbers as its shape and place")
    if len(offsets) != 2 or offsets[1] - offsets[0] != stored_bytes(kind, shape):
        raise ValueError(f"shape and place of {one_line(name)} disagree")
    return view_array(data, kind, shape, offset=start + offsets[0])
