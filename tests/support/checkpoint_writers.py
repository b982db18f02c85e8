"""Write checkpoint files byte for byte as other programs write them, without those programs."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_TORCH_STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
_SAFETENSORS_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_VARIABLE_TYPES = {"bool": 0, "int16": 1, "int32": 2, "int64": 3, "float16": 4, "float32": 5, "float64": 6}


@dataclass(frozen=True)
class Global:
    """A name in a module that may be missing; in a pickle only the name is stored."""

    module: str
    name: str

    def __call__(self, *args: object) -> object:
        raise AssertionError(f"{self} can only be written")


@dataclass(frozen=True)
class Call:
    """In a pickle, the call of a global with these arguments and state, which happens when it is unpickled."""

    function: Global
    args: tuple
    state: object = None

    def __reduce__(self) -> tuple:
        return self.function, self.args, self.state


@dataclass(eq=False)
class Storage:
    """A storage of torch: flat elements, and the name of its class if numpy has no such dtype (bfloat16)."""

    elements: np.ndarray
    kind: str = ""

    def class_name(self) -> str:
        return self.kind or _TORCH_STORAGES[self.elements.dtype.name]


@dataclass(eq=False)
class TorchTensor:
    """A tensor over a storage that several tensors may share; offset and stride are in elements."""

    storage: Storage
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0
    is_parameter: bool = False
    flags: dict[str, bool] | None = None  # such as {"neg": True}

    def __reduce__(self) -> tuple:
        arguments = (self.storage, self.offset, self.size, self.stride, False, OrderedDict())
        arguments += () if self.flags is None else (self.flags,)
        if not self.is_parameter:
            return _REBUILD_TENSOR, arguments
        return _REBUILD_PARAMETER, (Call(_REBUILD_TENSOR, arguments), True, OrderedDict())


_REBUILD_TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
_REBUILD_PARAMETER = Global("torch._utils", "_rebuild_parameter")


def write_torch_zip(path: Path, tensors: Mapping[str, object], wrap: str | None = "state_dict") -> None:
    """Write a file as torch.save does since 1.6. tensors: arrays, TorchTensors, or anything else to pickle."""
    pickled, storages = _torch_pickle(_wrapped(tensors, wrap), is_legacy=False)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        for key, storage in storages.items():
            archive.writestr(f"archive/data/{key}", storage.elements.tobytes())
        archive.writestr("archive/version", b"3\n")


def write_torch_legacy(path: Path, tensors: Mapping[str, object], wrap: str | None = "state_dict") -> None:
    """Write a file as torch.save did before 1.6."""
    pickled, storages = _torch_pickle(_wrapped(tensors, wrap), is_legacy=True)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with path.open("wb") as stream:
        for value in (0x1950A86A20F9469CFC6C, 1001, system):
            stream.write(pickle.dumps(value, protocol=2))
        stream.write(pickled)
        stream.write(pickle.dumps(list(storages), protocol=2))
        for storage in storages.values():
            stream.write(struct.pack("<q", storage.elements.size) + storage.elements.tobytes())


def write_pdparams(path: Path, arrays: Mapping[str, object], *, protocol: int = 4, is_nested: bool = False) -> None:
    """Write a file as paddle.save does for a state dict, or (`is_nested`) for a dict with one under "model"."""
    if is_nested:
        named = {name: Call(Global("builtins", "tuple"), ((f"var_{name}", array),)) for name, array in arrays.items()}
        tree = {"model": OrderedDict(named), "epoch": 3}
    else:
        tree = {**arrays, "StructuredToParameterName@@": {name: f"var_{name}" for name in arrays}}
    path.write_bytes(dump_with_globals(tree, protocol=protocol))


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray], *, bfloat16: Mapping[str, np.ndarray] = {}) -> None:
    """Write a safetensors file. bfloat16: further tensors, as the upper halves of float32 in uint16."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in {**arrays, **bfloat16}.items():
        dtype = "BF16" if name in bfloat16 else _SAFETENSORS_DTYPES[array.dtype.name]
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_variable_folder(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a folder as PaddlePaddle 1.x saves the variables of a static program."""
    path.mkdir(exist_ok=True)
    for name, array in arrays.items():
        (path / name).write_bytes(lod_tensor(array))


def write_variable_tar(path: Path, arrays: Mapping[str, np.ndarray], mode: str = "w") -> None:
    """Write a folder of variables in a tar file, as PaddleClas publishes its pretrained backbones."""
    folder = path.with_name(f"{path.name}_folder")
    write_variable_folder(folder, arrays)
    with tarfile.open(path, mode) as archive:
        archive.add(folder, "ResNet50_vd_ssld_pretrained")


def write_variable_tar_gz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a folder of variables in a compressed tar file."""
    write_variable_tar(path, arrays, "w:gz")


FILE_WRITERS = (
    write_torch_zip,
    write_torch_legacy,
    write_pdparams,
    write_safetensors,
    write_variable_tar,
    write_variable_tar_gz,
)
TORCH_WRITERS = (write_torch_zip, write_torch_legacy)


def lod_tensor(array: np.ndarray, *, levels: tuple[bytes, ...] = (), is_packed: bool = False) -> bytes:
    """Return a variable as a LoDTensor stream. is_packed: protobuf's packed form of the shape, unlike Paddle itself."""
    sizes = [_varint(size) for size in array.shape]
    if is_packed:
        shape = b"\x12" + _varint(len(b"".join(sizes))) + b"".join(sizes)
    else:
        shape = b"".join(b"\x10" + size for size in sizes)
    desc = b"\x08" + _varint(_VARIABLE_TYPES[array.dtype.name]) + shape
    lod = struct.pack("<Q", len(levels)) + b"".join(struct.pack("<Q", len(level)) + level for level in levels)
    return struct.pack("<I", 0) + lod + struct.pack("<Ii", 0, len(desc)) + desc + array.tobytes()


def dump_with_globals(tree: object, *, protocol: int) -> bytes:
    """Pickle an object in which Global and Call are names and calls of modules that may be missing."""
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(tree)
    return stream.getvalue()


def _varint(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def _wrapped(tensors: Mapping[str, object], wrap: str | None) -> dict:
    weights = OrderedDict((name, _as_torch(value)) for name, value in tensors.items())
    if wrap is None:
        return weights
    optimizer = {"state": {0: {"step": 7}}, "param_groups": [{"lr": 0.01, "params": [0]}]}
    return {"meta": {"epoch": 36, "CLASSES": ("person", "car")}, wrap: weights, "optimizer": optimizer}


def _as_torch(value: object) -> object:
    if not isinstance(value, np.ndarray):
        return value
    stride = tuple(step // value.itemsize for step in np.empty(value.shape, value.dtype).strides)
    return TorchTensor(Storage(value.ravel()), value.shape, stride)


def _torch_pickle(tree: object, *, is_legacy: bool) -> tuple[bytes, dict[str, Storage]]:
    stream = io.BytesIO()
    pickler = _TorchPickler(stream, is_legacy=is_legacy)
    pickler.dump(tree)
    return stream.getvalue(), pickler.storages


class _Pickler(pickle._Pickler):
    """Pickle a Global without importing its module, unlike the pickler of the standard library."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_named(self, named: Global) -> None:
        self.write(pickle.GLOBAL + f"{named.module}\n{named.name}\n".encode())
        self.memoize(named)

    dispatch[Global] = save_named


class _TorchPickler(_Pickler):
    """Keep storages out of the pickle, as torch.save does."""

    def __init__(self, stream: io.BytesIO, *, is_legacy: bool) -> None:
        super().__init__(stream, protocol=2)
        self.storages: dict[str, Storage] = {}
        self._keys: dict[int, str] = {}
        self._kinds: dict[str, Global] = {}
        self._is_legacy = is_legacy

    def persistent_id(self, value: object) -> tuple | None:
        if not isinstance(value, Storage):
            return None
        key = self._keys.setdefault(id(value), str(len(self._keys)))
        self.storages[key] = value
        kind = self._kinds.setdefault(value.class_name(), Global("torch", value.class_name()))
        view_metadata = (None,) if self._is_legacy else ()
        return ("storage", kind, key, "cpu", value.elements.size, *view_metadata)
