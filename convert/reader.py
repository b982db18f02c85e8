"""Read the weight files of other programs: torch, PaddlePaddle and safetensors."""

from __future__ import annotations

import difflib
import hashlib
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import numpy as np

from config.errors import InputError
from convert.paddle_files import read_pdparams, read_variable_folder, read_variable_tar
from convert.safetensors_file import is_safetensors, read_safetensors
from convert.tar_files import GZIP_MAGIC
from convert.torch_files import LEGACY_MAGIC, read_torch_legacy, read_torch_zip
from data.files import why_missing
from tools.common.safe_pickle import DamagedFileError, one_line

_PICKLE_PROTOCOLS = (2, 3, 4, 5)
_LEGACY_HEADS = tuple(pickle.dumps(LEGACY_MAGIC, protocol=protocol) for protocol in _PICKLE_PROTOCOLS)
_PICKLE_HEADS = tuple(bytes([pickle.PROTO[0], protocol]) for protocol in _PICKLE_PROTOCOLS)
_HEAD_BYTES = 512
_TAR_MARK = slice(257, 262)

# Exceptions that the parsers of the formats raise for malformed files.
_MALFORMED = (
    ValueError,
    OverflowError,
    EOFError,
    OSError,
    RuntimeError,
    struct.error,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def read_checkpoint(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Read the weights of another program's file without executing anything in it.

    path: a `.pth` of torch (either format), a `.pdparams` of PaddlePaddle or another pickled dict of numpy arrays, a
        `.safetensors`, or a folder (also as tar or tar.gz) with one file per variable of PaddlePaddle 1.x. The format
        is recognised by the content, whatever the name.
    Returns a flat mapping of names to arrays in the order of the file (of a folder: sorted by name). Wrappers
    (`state_dict`, `model`) and a `module.` before every name are removed, bfloat16 is widened to float32, other types
    stay. Arrays may be read-only views of the file, which must not be modified meanwhile.
    Raises InputError if the file is missing, unreadable, damaged, of unknown format, or tries to run code.
    """
    path = Path(path)
    try:
        _check_exists(path)
        return _reader_for(path)(path)
    except InputError:
        raise
    except PermissionError as error:
        raise _permission_error(path, error) from error
    except _MALFORMED as error:
        raise DamagedFileError(path, one_line(error) or type(error).__name__) from error


def sha256_of(path: str | PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal, as `sha256sum` prints it.

    For a folder it is the SHA-256 of the lines `<sha256>  <relative name>` of its files, sorted by name.
    Raises InputError if the path is missing or may not be read.
    """
    path = Path(path)
    digest = hashlib.sha256()
    try:
        _check_exists(path)
        if path.is_dir():
            names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
            digest.update("".join(f"{sha256_of(path / name)}  {name}\n" for name in names).encode())
        else:
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except PermissionError as error:
        raise _permission_error(path, error) from error
    return digest.hexdigest()


def _permission_error(path: Path, error: PermissionError) -> InputError:
    return InputError(f"{error.filename or path}: may not be read; ask for permission to read it")


def _check_exists(path: Path) -> None:
    if path.is_file() or path.is_dir():
        return
    if path.exists():
        raise InputError(f"{path}: is neither a file nor a folder; give the path of a weight file")
    siblings = {sibling.name for sibling in path.parent.iterdir()} if path.parent.is_dir() else set()
    similar = difflib.get_close_matches(path.name, sorted(siblings - {path.name}), n=1)
    hint = f"did you mean {path.parent / similar[0]}?" if similar else "check the path"
    raise InputError(f"{path}: {why_missing(path)}; {hint}")


def _reader_for(path: Path) -> Callable[[Path], dict[str, np.ndarray]]:
    """Return the reader of the format that the first bytes indicate."""
    if path.is_dir():
        return read_variable_folder
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise DamagedFileError(path, "is empty")
    if head.startswith(b"PK\x03\x04"):
        return read_torch_zip
    if head.startswith(GZIP_MAGIC) or head[_TAR_MARK] == b"ustar":
        return read_variable_tar
    if is_safetensors(head):
        return read_safetensors
    if head.startswith(_LEGACY_HEADS):
        return read_torch_legacy
    if head.startswith(_PICKLE_HEADS):
        return read_pdparams
    raise _unknown_format_error(path, head)


def _unknown_format_error(path: Path, head: bytes) -> InputError:
    """Return the error for a file of unknown format; after a failed download the file is often a text page."""
    text = head.decode("utf-8", errors="replace").rstrip("\ufffd")
    if all(character.isprintable() or character.isspace() for character in text) and "\ufffd" not in text:
        return InputError(
            f"{path}: is text that begins with {one_line(text)[:40]!r}, not weights; the download failed, repeat it"
        )
    return InputError(
        f"{path}: is of unknown format; give a .pth of torch, a .pdparams of PaddlePaddle, a .safetensors, or a "
        "folder or tar with one file per variable"
    )
