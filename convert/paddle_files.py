"""Read checkpoints of PaddlePaddle: `.pdparams` of 2.x and 3.x, and the folders of variable files of 1.x."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np

from config.errors import InputError
from convert.array_bytes import BFLOAT16, map_file, stored_bytes, view_array
from convert.containers import extract_weights
from convert.tar_files import open_tar, read_exactly, read_to_end
from tools.common.safe_pickle import is_shape, load_arrays, one_line

_PARAMETER_NAMES = "StructuredToParameterName@@"
_CHUNKS = "UnpackBigParamInfor@@"  # Paddle's spelling
_TORCH_TAR_NAMES = {"sys_info", "pickle", "storages", "tensors"}
_VARIABLE_TYPES = {  # VarType.Type of Paddle's framework.proto
    0: "bool",
    1: "int16",
    2: "int32",
    3: "int64",
    4: "float16",
    5: "float32",
    6: "float64",
    20: "uint8",
    21: "int8",
    22: BFLOAT16,
}
_OpenFile = tuple[str, BinaryIO, int]  # name, content and size in bytes


def read_pdparams(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict written by `paddle.save` (protocol 2 to 4), or any pickled dict of numpy arrays.

    Returns name -> array in the order of the file. Arrays that protocol 2 split into pieces are joined.
    Paddle stores bfloat16 parameters as uint16 without any mark; they stay uint16.
    Raises InputError if the pickle is refused or has no weights, ValueError if its pieces do not fit together.
    """
    tree = load_arrays(map_file(path), path)
    return extract_weights(_join_pieces(tree) if isinstance(tree, dict) else tree, path, as_array=_unpack_named_array)


def read_variable_folder(path: Path) -> dict[str, np.ndarray]:
    """Read a folder of PaddlePaddle 1.x, where each file is one variable and has its name. Sorted by name."""
    files = [file for file in sorted(path.iterdir()) if not _is_ignored(file.name)]
    folders = [file for file in files if not file.is_file()]
    if folders:
        raise InputError(f"{folders[0]}: is not a variable file; give a folder that contains nothing else")
    return _decode_variables(path, _open_files(files))


def read_variable_tar(path: Path) -> dict[str, np.ndarray]:
    """Read a folder of PaddlePaddle 1.x packed as tar or tar.gz, in the order of the archive."""
    with open_tar(path) as archive:
        return _decode_variables(path, _open_members(archive, _list_variables(archive, path)))


def _unpack_named_array(value: Any) -> np.ndarray | None:
    """Return the array of `(variable name, array)`, the form of tensors in nested containers of `paddle.save`."""
    is_named_array = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], np.ndarray)
    return value[1] if is_named_array else None


def _join_pieces(tree: dict) -> dict:
    """Join arrays that were split into pieces and drop Paddle's own entries."""
    chunks = tree.get(_CHUNKS, {})
    if not isinstance(chunks, dict):
        raise ValueError(f"its entry {_CHUNKS} is not a dict")
    owners = {piece: name for name in chunks for piece in _pieces(chunks[name], tree)}
    joined = {}
    for key, value in tree.items():
        name = owners.get(key, key)
        if key in owners and name not in joined:
            pieces = [tree[piece] for piece in _pieces(chunks[name], tree)]
            joined[name] = np.concatenate(pieces).reshape(chunks[name]["OriginShape"])
        elif key not in owners and key not in (_PARAMETER_NAMES, _CHUNKS):
            joined[name] = value
    return joined


def _pieces(chunk: object, tree: dict) -> list[str]:
    """Return the names of the pieces of one array. Repeated names are refused: a small file could fill the memory."""
    if isinstance(chunk, dict) and isinstance(chunk.get("slices"), list) and is_shape(chunk.get("OriginShape")):
        names = chunk["slices"]
        exist = all(isinstance(name, str) and isinstance(tree.get(name), np.ndarray) for name in names)
        if exist and len(set(names)) == len(names) > 0:
            return names
    raise ValueError("the list of the pieces of its large arrays does not match its arrays")


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name == "__model__"


def _list_variables(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """Return the files of an archive by name; they must all be in one folder."""
    members = {}
    folders = set()
    for member in archive:
        inside = PurePosixPath(member.name)
        if member.isdir() or any(map(_is_ignored, inside.parts)):
            continue
        folders.add(inside.parent)
        if not member.isreg() or member.issparse() or len(folders) > 1:
            raise InputError(
                f"{path}: has more than one folder of plain files ({one_line(member.name)}); "
                "unpack it and give the folder with the variables"
            )
        members[inside.name] = member
    read_to_end(archive)
    if members.keys() >= _TORCH_TAR_NAMES:
        raise InputError(f"{path}: is a tar checkpoint of torch before 0.2; load it with torch and save it again")
    return members


def _open_members(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo]) -> Iterator[_OpenFile]:
    for name, member in members.items():
        content = archive.extractfile(member)
        assert content is not None  # it is a regular file
        yield name, cast(BinaryIO, content), member.size


def _open_files(files: Iterable[Path]) -> Iterator[_OpenFile]:
    for file in files:
        with file.open("rb") as stream:
            yield file.name, stream, file.stat().st_size


def _decode_variables(path: Path, files: Iterable[_OpenFile]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, stream, size in files:
        try:
            arrays[name] = _decode_variable(stream, size)
        except (ValueError, struct.error, OverflowError, IndexError, KeyError) as error:
            raise InputError(
                f"{path}: {one_line(name)} in it is not a complete variable of PaddlePaddle 1.x ({one_line(error)}); "
                "if it is a checkpoint, give its own path, otherwise download the folder again"
            ) from error
    if not arrays:
        raise InputError(f"{path}: has no variables; give a weight file, or a folder with one file per variable")
    return arrays


def _decode_variable(stream: BinaryIO, size: int) -> np.ndarray:
    """Decode a LoDTensor: version, levels of detail (skipped), tensor version, TensorDesc, data. All little-endian.

    size: of the file, in bytes. The data is read only if it has the size that the TensorDesc states.
    """
    left = size

    def take(count: int) -> bytearray:
        nonlocal left
        if not 0 <= count <= left:
            raise ValueError("it ends too early")
        left -= count
        return read_exactly(stream, count)

    version, levels = struct.unpack("<IQ", take(12))
    for _ in range(levels if version == 0 else 0):
        take(*struct.unpack("<Q", take(8)))
    tensor_version, desc_size = struct.unpack("<Ii", take(8))
    if version or tensor_version:
        raise ValueError(f"versions {version} and {tensor_version} are not 0")
    kind, shape = _decode_tensor_desc(take(desc_size))
    if stored_bytes(kind, shape) != left:
        raise ValueError(f"shape {shape} of {kind} does not fit in its {left} bytes")
    return view_array(take(left), kind, shape)


def _decode_tensor_desc(message: bytes | bytearray) -> tuple[str, list[int]]:
    """Decode element type (field 1) and shape (field 2, packed or not) of a TensorDesc in protobuf's wire format."""
    kinds, shape = [], []
    position = 0
    while position < len(message):
        tag, position = _decode_varint(message, position)
        value, position = _decode_varint(message, position)
        if tag == 0x08:
            kinds.append(_VARIABLE_TYPES[value])
        elif tag == 0x10:
            shape.append(value)
        elif tag == 0x12:
            end = position + value
            while position < end:
                size, position = _decode_varint(message, position)
                shape.append(size)
        else:
            raise ValueError(f"unknown tag {tag}")
    return kinds[-1], shape


def _decode_varint(message: bytes | bytearray, position: int) -> tuple[int, int]:
    """Decode an unsigned integer in groups of 7 bits, lowest first. Returns it and the position after it."""
    value = shift = 0
    while message[position] & 0x80:
        value |= (message[position] & 0x7F) << shift
        shift += 7
        position += 1
    return value | message[position] << shift, position + 1
