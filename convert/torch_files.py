"""Read checkpoints of torch without torch: the zip format (torch 1.6 and later) and the legacy format.

Both contain a pickle in which each tensor names a storage (a flat array outside of the pickle), an offset, a size and
strides. As in `torch.load`, tensors may share a storage and need not be contiguous.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from config.errors import InputError
from convert.array_bytes import BFLOAT16, map_file, stored_bytes, view_array
from convert.containers import extract_weights
from tools.common.safe_pickle import is_shape, load_arrays, one_line, require

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_STORAGE_KINDS = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def read_torch_zip(path: Path) -> dict[str, np.ndarray]:
    """Read the zip format that `torch.save` writes since torch 1.6.

    Returns name -> array in the order of the file, read-only; bfloat16 as float32, other types as stored.
    Raises InputError if the zip is not a checkpoint; errors of zipfile and struct and ValueError if it is damaged
    (`read_checkpoint` turns those into an InputError).
    """
    with zipfile.ZipFile(path) as archive:
        prefix = _find_prefix(archive, path)
        names = set(archive.namelist())
        is_big_endian = f"{prefix}byteorder" in names and archive.read(f"{prefix}byteorder") == b"big"

        def read_storage(storage: _Storage) -> np.ndarray:
            name = f"{prefix}data/{storage.key}"
            if name not in names:
                raise ValueError(f"storage {one_line(storage.key)} is missing")
            raw = archive.read(name)
            if len(raw) != storage.nbytes:
                raise ValueError(f"storage {one_line(storage.key)} has {len(raw)} bytes, not {storage.nbytes}")
            return view_array(raw, storage.kind, (storage.numel,), byte_order=">" if is_big_endian else "<")

        pickled = io.BytesIO(archive.read(f"{prefix}data.pkl"))
        tree = load_arrays(
            pickled, path, allowed=_TORCH_NAMES, persistent_load=_StorageTable(read_storage).persistent_load
        )
        return extract_weights(tree, path, as_array=_as_array)


def read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """Read the format of `torch.save` before torch 1.6 or with `_use_new_zipfile_serialization=False`.

    Returns and raises as `read_torch_zip`; contiguous arrays are views of the file.
    """
    data = map_file(path)
    magic, version, system = (load_arrays(data, path) for _ in range(3))
    if (magic, version) != (LEGACY_MAGIC, _LEGACY_VERSION) or not isinstance(system, dict):
        raise ValueError(f"its version is {one_line(version)}, not {_LEGACY_VERSION}")
    positions: dict[str, int] = {}

    def read_storage(storage: _Storage) -> np.ndarray:
        return view_array(data, storage.kind, (storage.numel,), offset=positions[storage.key])

    table = _StorageTable(read_storage)
    tree = load_arrays(data, path, allowed=_TORCH_NAMES, persistent_load=table.persistent_load)
    keys = load_arrays(data, path)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(table.storages):
        raise ValueError("its list of storages and its tensors disagree")
    position = data.tell()
    for key in keys:
        storage = table.storages[key]
        (numel,) = struct.unpack_from("<q", data, position)
        if numel != storage.numel:
            raise ValueError(f"storage {one_line(key)} has {numel} elements, {storage.numel} are expected")
        positions[key] = position + 8
        position += 8 + storage.nbytes
        if position > len(data):
            raise ValueError(f"it ends within storage {one_line(key)}")
    return extract_weights(tree, path, as_array=_as_array)


def _find_prefix(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the folder of `data.pkl` in the zip. Checks that no entry is compressed or larger than the file."""
    prefixes = {name[: -len("data.pkl")] for name in archive.namelist() if PurePosixPath(name).name == "data.pkl"}
    if len(prefixes) != 1:
        raise InputError(
            f"{path}: is a zip file but not a torch checkpoint (no data.pkl in it); if it was packed "
            "for the download, unpack it and give the file inside"
        )
    entries = archive.infolist()
    if any("code" in PurePosixPath(entry.filename).parts[:-1] for entry in entries):
        raise InputError(
            f"{path}: is a TorchScript program; load it with torch.jit.load, save its state_dict() with torch.save, "
            "and give that file"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(f"{path}: is a compressed zip file, which torch never writes; download it again")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("its entries are larger than the file")
    return prefixes.pop()


@dataclass(eq=False)
class _Storage:
    """A flat array that tensors share. It is read when the first tensor needs it."""

    kind: str
    key: str
    numel: int
    read: Callable[[_Storage], np.ndarray] = field(repr=False)

    @property
    def nbytes(self) -> int:
        return stored_bytes(self.kind, (self.numel,))

    @cached_property
    def elements(self) -> np.ndarray:
        return self.read(self)


class _StorageTable:
    """The storages named in a pickle so far."""

    def __init__(self, read: Callable[[_Storage], np.ndarray]) -> None:
        self.storages: dict[str, _Storage] = {}
        self._read = read

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage of `("storage", type, key, location, numel)`; torch before 1.6 appends view metadata."""
        require(isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage", "an id that is not a storage")
        kind, key, numel = pid[1], pid[2], pid[4]
        require(isinstance(kind, str) and kind in _STORAGE_KINDS.values(), "a storage of an unknown type")
        require(isinstance(key, str) and type(numel) is int and numel >= 0, "a storage without key and size")
        require(pid[5:] in ((), (None,)), "a view of a storage, as before torch 0.4")
        storage = self.storages.setdefault(key, _Storage(kind, key, numel, self._read))
        require((storage.kind, storage.numel) == (kind, numel), f"storage {key} with two types or sizes")
        return storage


@dataclass(eq=False)
class _Tensor:
    """The position of a tensor in its storage, in elements. It is read later, as storages may follow the pickle."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    is_negated: bool = False  # stored with the other sign, as views of torch may be

    def array(self) -> np.ndarray:
        return -self._stored() if self.is_negated else self._stored()

    def _stored(self) -> np.ndarray:
        if 0 in self.size:
            return np.empty(self.size, self.storage.elements.dtype)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.size, self.stride))
        if last >= self.storage.numel:
            raise ValueError(f"a tensor of shape {list(self.size)} does not fit in its storage")
        elements = self.storage.elements
        strides = [stride * elements.itemsize for stride in self.stride]
        return np.ndarray(self.size, elements.dtype, elements, self.offset * elements.itemsize, strides)


def _as_array(value: object) -> np.ndarray | None:
    return value.array() if isinstance(value, _Tensor) else None


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> _Tensor:
    """Replace `torch._utils._rebuild_tensor_v2`. others: whether it has gradients, their hooks, and its flags."""
    require(isinstance(storage, _Storage), "a tensor without a storage")
    require(is_shape(size) and is_shape(stride) and len(size) == len(stride), "a tensor without a shape")
    require(is_shape((offset,)), "a tensor without an offset in its storage")
    flags = others[2] if len(others) > 2 and isinstance(others[2], dict) else {}
    return _Tensor(storage, offset, size, stride, is_negated=flags.get("neg") is True)


def _rebuild_parameter(data: Any, *_unused: object) -> _Tensor:
    """Replace `torch._utils._rebuild_parameter` and, for torch before 0.4, `Parameter` itself."""
    require(isinstance(data, _Tensor), "a parameter without a tensor")
    return data


_TORCH_NAMES = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch.nn.parameter", "Parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): kind for name, kind in _STORAGE_KINDS.items()},
}
