"""Checkpoints of PaddlePaddle: the `.pdparams` of 2.x and 3.x, and the one file a variable of 1.x static programs."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from config.errors import InputError
from convert.array_bytes import BFLOAT16, map_file, stored_bytes, view_array
from convert.containers import extract_weights
from tools.common.safe_pickle import is_shape, load_arrays, one_line

_PARAMETER_NAMES = "StructuredToParameterName@@"
_CHUNKS = "UnpackBigParamInfor@@"  # Paddle's spelling
_DEFLATE_LIMIT = 1032  # the highest ratio zlib's format can reach
GZIP_MAGIC = b"\x1f\x8b"
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


def read_pdparams(path: Path) -> dict[str, np.ndarray]:
    """Read what `paddle.save` writes for a state dict (protocol 2 to 4), and any pickled dict of numpy arrays.

    Returns name -> array in the order of the file. Arrays that were cut into pieces for protocol 2 are whole again.
    bfloat16 parameters are uint16 in such a file, without a mark, and stay uint16.
    Raises InputError where the pickle is refused or holds no weights, ValueError where its pieces do not fit.
    """
    tree = load_arrays(map_file(path), path)
    return extract_weights(_join_pieces(tree) if isinstance(tree, dict) else tree, path, as_array=_unpack_named_array)


def read_variable_folder(path: Path) -> dict[str, np.ndarray]:
    """Read a folder that PaddlePaddle 1.x wrote: each file is one variable and bears its name. Sorted by name."""
    files = [file for file in sorted(path.iterdir()) if not _is_ignored(file.name)]
    folders = [file for file in files if not file.is_file()]
    if folders:
        raise InputError(f"{folders[0]}: is no variable file; give a folder that holds nothing else")
    return _decode_variables(path, ((file.name, file.read_bytes()) for file in files))


def read_variable_tar(path: Path) -> dict[str, np.ndarray]:
    """Read such a folder packed as tar or tar.gz, in the order of the archive."""
    try:
        members = dict(_tar_members(path))
    except MemoryError as error:  # tarfile believes the size of an extended header
        raise ValueError("a header claims to be larger than the memory") from error
    if members.keys() >= _TORCH_TAR_NAMES:
        raise InputError(f"{path}: is a tar checkpoint of torch before 0.2; load it with torch and save it again")
    return _decode_variables(path, members.items())


def _unpack_named_array(value: object) -> np.ndarray | None:
    """The array of `(variable name, array)`, as which `paddle.save` writes tensors of nested containers."""
    named = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], np.ndarray)
    return value[1] if named else None


def _join_pieces(tree: dict) -> dict:
    """Put arrays that were cut into pieces together and drop Paddle's own entries."""
    chunks = tree.get(_CHUNKS, {})
    if not isinstance(chunks, dict):
        raise ValueError(f"its entry {_CHUNKS} is no dict")
    owners = {part: name for name in chunks for part in _pieces(chunks[name], tree)}
    joined = {}
    for key, value in tree.items():
        name = owners.get(key, key)
        if key in owners and name not in joined:
            pieces = [tree[part] for part in _pieces(chunks[name], tree)]
            joined[name] = np.concatenate(pieces).reshape(chunks[name]["OriginShape"])
        elif key not in owners and key not in (_PARAMETER_NAMES, _CHUNKS):
            joined[name] = value
    return joined


def _pieces(chunk: object, tree: dict) -> list[str]:
    """The names of the pieces of one array, each of which occurs once: repeated, a small file could fill the memory."""
    if isinstance(chunk, dict) and isinstance(chunk.get("slices"), list) and is_shape(chunk.get("OriginShape")):
        parts = chunk["slices"]
        found = all(isinstance(part, str) and isinstance(tree.get(part), np.ndarray) for part in parts)
        if found and len(set(parts)) == len(parts) > 0:
            return parts
    raise ValueError("the list of the pieces of its large arrays does not fit its arrays")


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name == "__model__"


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as stream:
        is_packed = stream.read(2) == GZIP_MAGIC
    limit = path.stat().st_size * (_DEFLATE_LIMIT if is_packed else 1)
    folders = set()
    with tarfile.open(path, "r:gz" if is_packed else "r:") as archive:
        for member in archive:
            inside = PurePosixPath(member.name)
            if member.isdir() or any(map(_is_ignored, inside.parts)):
                continue
            folders.add(inside.parent)
            if not member.isreg() or member.issparse() or len(folders) > 1:
                raise InputError(
                    f"{path}: holds more than one folder of plain files ({one_line(member.name)}); "
                    "unpack it and give the folder with the variables"
                )
            limit -= member.size
            if limit < 0:
                raise ValueError("its members are larger than the file")
            yield inside.name, archive.extractfile(member).read()
        # tarfile ends silently at a header it cannot read, a whole archive at a block of zeros.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(f"the archive ends after {len(archive.getmembers())} members without its end mark")
        while archive.fileobj.read(1 << 20):  # to the end, where gzip keeps its checksum
            continue


def _decode_variables(path: Path, files: Iterable[tuple[str, bytes]]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, data in files:
        try:
            arrays[name] = _decode_variable(data)
        except (ValueError, struct.error, OverflowError, IndexError, KeyError) as error:
            raise InputError(
                f"{path}: {one_line(name)} in it is no whole variable of PaddlePaddle 1.x ({one_line(error)}); "
                "if it is a checkpoint give its own path, else download the folder again"
            ) from error
    if not arrays:
        raise InputError(f"{path}: holds no variables; give a weight file, or a folder with one file per variable")
    return arrays


def _decode_variable(data: bytes) -> np.ndarray:
    """One LoDTensor: version, levels of detail (skipped), tensor version, TensorDesc, numbers. All little endian."""
    version, levels = struct.unpack_from("<IQ", data)
    position = 12
    for _ in range(levels if version == 0 else 0):
        (level_size,) = struct.unpack_from("<Q", data, position)
        position += 8 + level_size
    tensor_version, desc_size = struct.unpack_from("<Ii", data, position)
    position += 8
    if version or tensor_version or not 0 <= desc_size <= len(data) - position:
        raise ValueError(f"versions {version} and {tensor_version} are not 0")
    kind, shape = _decode_tensor_desc(data[position : position + desc_size])
    array = view_array(data, kind, shape, offset=position + desc_size)
    if position + desc_size + stored_bytes(kind, shape) != len(data):
        raise ValueError(f"shape {shape} leaves bytes over")
    return array


def _decode_tensor_desc(message: bytes) -> tuple[str, list[int]]:
    """The element type (field 1) and the shape (field 2, packed or not) of a TensorDesc in protobuf's wire format."""
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


def _decode_varint(message: bytes, position: int) -> tuple[int, int]:
    """An unsigned number in groups of 7 bits, lowest first; returns it and the position behind it."""
    value = shift = 0
    while message[position] & 0x80:
        value |= (message[position] & 0x7F) << shift
        shift += 7
        position += 1
    return value | message[position] << shift, position + 1
